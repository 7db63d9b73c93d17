"""What must be settled before or beside the sick sites: non-finite values, poor evidence, sites that were skipped."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.judge.findings import find_nonfinite, find_synthetic, find_too_few_samples
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import samples_needed
from deadrelu.remedy.causes import CLIP
from deadrelu.report import Report, Skipped
from deadrelu.report.advice import Remedy, SiteAdvice
from deadrelu.report.commands import id_glob, scan_command
from deadrelu.text.wording import count


def non_finite(report: Report) -> Iterator[SiteAdvice]:
    """NaN and infinity come before all else: first in the weights, then at the first site that met them."""
    found = list(find_nonfinite(report, Policy.from_settings(report.settings)))
    if not found:
        return
    first, later = found[0], len([finding for finding in found[1:] if finding.site is not None])
    says = first.message
    if later:
        says += f" {count(later, 'site')} {'after it' if first.site else 'met them'} too."
    back = "What is NaN stays NaN: it spreads with each step, and no later training removes it."
    source = "Some inputs may be NaN or infinite themselves; then the model is not to blame."
    remedies = [
        Remedy(title="Go back to a checkpoint from before training diverged", why=back),
        Remedy(
            title="Train from there with clipped gradients, a warm-up and a lower learning rate",
            why="Weights become infinite by steps that grow from one to the next.",
            python=CLIP,
        ),
        Remedy(title="Then scan again", why="No other figure after it can be relied on.", command=scan_command(report)),
    ]
    if first.site is not None:
        remedies.insert(0, Remedy(title="Look for NaN in the data", why=f"All weights are finite. {source}"))
    yield SiteAdvice(site=first.site, ailment="non-finite", says=says, remedies=tuple(remedies))


def measure_first(report: Report) -> Iterator[SiteAdvice]:
    """Synthetic data, and too few samples: nothing is to be swapped on such evidence."""
    policy = Policy.from_settings(report.settings)
    for finding in find_synthetic(report, policy):
        yield SiteAdvice(
            site=None,
            ailment="synthetic data",
            says=finding.message,
            remedies=(
                Remedy(
                    title="Measure on real samples before you change anything: add --data",
                    why="A unit that is silent on noise may fire on real inputs, and the other way round. --data takes"
                    " a .npz, .npy, .pt or .safetensors file, a folder of images, or code: my/data.py:loader.",
                ),
            ),
        )
    for finding in find_too_few_samples(report, policy):
        yield SiteAdvice(
            site=None,
            ailment="too few samples",
            says=finding.message,
            remedies=(_more_samples(report, samples_needed(policy.rare_below, policy.confidence)),),
        )


def _more_samples(report: Report, needed: int) -> Remedy:
    """How to come by more samples: all of the data, where --samples cut it, else more data."""
    why = "A unit that is called dead here may be rare, and a rare unit is best left alone."
    if report.settings.get("samples") is not None or report.settings.get("stopped"):
        return Remedy(
            title=f"Scan all of the data, at least {needed:,} samples, before you change anything",
            why=why,
            command=scan_command(report, without=("--samples", "--until-verdict", "--until-likely")),
        )
    return Remedy(
        title=f"Bring more data, at least {needed:,} samples, before you change anything",
        why=f"{why} All of this data was scanned, and it holds {count(report.data.samples, 'sample')}.",
    )


def skipped_site(report: Report, skipped: Skipped) -> SiteAdvice:
    """How to get a site measured, by the reason why it was not."""
    glob = id_glob(skipped.id)
    if "feature axis" in skipped.reason and "single number" not in skipped.reason:
        remedy = Remedy(
            title=f"Name the axis that tells its units apart: add --feature-axis '{glob}=AXIS'",
            why="Without it there are no units to count. --feature-axis SITE=none makes the site a single unit.",
        )
    elif "never called" in skipped.reason:
        remedy = Remedy(
            title="Scan with inputs that reach it, or leave it out if it serves training only",
            why="An auxiliary head or a target network is registered, and does not run.",
            command=scan_command(report, f"--skip-site={glob}"),
        )
    elif "fused" in skipped.reason:
        remedy = Remedy(
            title="Scan the model as it was before it was fused or quantised",
            why="A fused layer never forms its pre-activation; the float model has the same units.",
        )
    else:
        remedy = Remedy(
            title="Remove the reason, or leave this site out",
            why="What was not measured is neither alive nor dead.",
            command=scan_command(report, f"--skip-site={glob}"),
        )
    says = f"This {skipped.op} was skipped: {' '.join(skipped.reason.split()).rstrip('.')}."
    return SiteAdvice(site=skipped.id, ailment="skipped", says=says, remedies=(remedy,))


def setting(report: Report, name: str, default: float) -> float:
    """A fraction among the settings of the scan."""
    value = report.settings.get(name)
    return float(value) if isinstance(value, (int, float)) else default
