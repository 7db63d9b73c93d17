"""Advice that comes before or beside the sick sites: non-finite values, weak evidence, skipped sites."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.judge.doubts import find_odd_inputs, find_synthetic, find_too_few_samples
from deadrelu.judge.findings import find_nonfinite
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import samples_needed
from deadrelu.remedy.causes import clipping, lower_rate
from deadrelu.report import Report, Skipped
from deadrelu.report.advice import Remedy, SiteAdvice
from deadrelu.report.commands import id_glob, scan_command
from deadrelu.text.wording import count


def non_finite(report: Report) -> Iterator[SiteAdvice]:
    """Advice on NaN and infinity, which comes first: in the weights, else at the first site that met them."""
    found = list(find_nonfinite(report, Policy.from_settings(report.settings)))
    if not found:
        return
    first, later = found[0], len([finding for finding in found[1:] if finding.site is not None])
    says = first.message
    if later:
        says += f" {count(later, 'site')} {'after it' if first.site else 'met them'} too."
    back = "NaN spreads with each step, and no later training removes it."
    source = "Some inputs may be NaN or infinite; then the model is not to blame."
    remedies = [
        Remedy(title="Go back to a checkpoint from before training diverged", why=back),
        Remedy(
            title=f"Train from there with clipped gradients, a warm-up and {lower_rate(report)}",
            why="Weights become infinite when each step is larger than the last.",
            python=clipping(report),
        ),
        Remedy(
            title="Then scan again",
            why="No figure measured after that site can be trusted.",
            command=scan_command(report),
        ),
    ]
    if first.site is not None:
        remedies.insert(0, Remedy(title="Check the data for NaN", why=f"All weights are finite. {source}"))
    yield SiteAdvice(site=first.site, ailment="non-finite", says=says, remedies=tuple(remedies))


def inputs_first(report: Report) -> Iterator[SiteAdvice]:
    """Advice on inputs that are not those of the training, which comes before everything: all figures hang on it."""
    for finding in find_odd_inputs(report, Policy.from_settings(report.settings)):
        remedy = Remedy(
            title="Prepare the data as in training, and scan again, before you change anything",
            why="On inputs of another scale, other units are dead than in use.",
            command=scan_command(report),
        )
        yield SiteAdvice(site=None, ailment="input scale", says=finding.message, remedies=(remedy,))


def measure_first(report: Report) -> Iterator[SiteAdvice]:
    """Advice against a swap on weak evidence: synthetic data, or too few samples."""
    policy = Policy.from_settings(report.settings)
    for finding in find_synthetic(report, policy):
        yield SiteAdvice(
            site=None,
            ailment="synthetic data",
            says=finding.message,
            remedies=(
                Remedy(
                    title="Measure on real samples before you change anything: add --data",
                    why="A unit that is silent on noise may fire on real inputs, and vice versa. --data takes"
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
    """How to get more samples: scan all of the data if --samples cut it, else use more data."""
    why = "A unit that looks dead here may be rare, and a rare unit is best left alone."
    if report.settings.get("samples") is not None or report.settings.get("stopped"):
        return Remedy(
            title=f"Scan all of the data, at least {needed:,} samples, before you change anything",
            why=why,
            command=scan_command(report, without=("--samples", "--until-verdict", "--until-likely")),
        )
    return Remedy(
        title=f"Use more data, at least {needed:,} samples, before you change anything",
        why=f"{why} All of this data was scanned; it holds {count(report.data.samples, 'sample')}.",
    )


def skipped_site(report: Report, skipped: Skipped) -> SiteAdvice:
    """How to get a skipped site measured, chosen by the reason."""
    glob = id_glob(skipped.id)
    if "feature axis" in skipped.reason and "single number" not in skipped.reason:
        remedy = Remedy(
            title=f"Name the axis of its units: add --feature-axis '{glob}=AXIS'",
            why="Without it there are no units to count. --feature-axis SITE=none makes the site a single unit.",
        )
    elif "never called" in skipped.reason:
        remedy = Remedy(
            title="Scan with inputs that reach it, or skip it if it is for training only",
            why="An auxiliary head or a target network is registered but does not run.",
            command=scan_command(report, f"--skip-site={glob}"),
        )
    elif "fused" in skipped.reason:
        remedy = Remedy(
            title="Scan the model from before it was fused or quantised",
            why="A fused layer never forms its pre-activation; the float model has the same units.",
        )
    else:
        remedy = Remedy(
            title="Remove the reason, or skip this site",
            why="A site that was not measured is neither alive nor dead.",
            command=scan_command(report, f"--skip-site={glob}"),
        )
    says = f"This {skipped.op} was skipped: {' '.join(skipped.reason.split()).rstrip('.')}."
    return SiteAdvice(site=skipped.id, ailment="skipped", says=says, remedies=(remedy,))


def setting(report: Report, name: str, default: float) -> float:
    """A fraction from the settings of the scan."""
    value = report.settings.get(name)
    return float(value) if isinstance(value, (int, float)) else default
