"""What casts doubt on the figures of a report: a function for each rule."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.judge.finders import finder, make_finding
from deadrelu.judge.inputs import odd_inputs
from deadrelu.judge.policy import Policy
from deadrelu.judge.rules import RULES
from deadrelu.judge.statistics import samples_needed
from deadrelu.report import Finding, Report
from deadrelu.text.wording import count, exact_percent


@finder
def find_too_few_samples(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR006: a unit is called dead on too few samples to tell it from a rare one.

    There is one finding for the whole scan, on the fewest samples: more data helps all sites at once. With `rare_below`
    at 0 nothing is rare, so there is nothing to tell apart.
    """
    weakest = min((stats for stats in report.sites if stats.dead), key=lambda stats: stats.samples, default=None)
    if weakest is None or not policy.rare_below:
        return
    samples, needed = weakest.samples, samples_needed(policy.rare_below, policy.confidence)
    if samples < needed:
        reached = f", all that reached {weakest.site.id}," if samples < report.data.samples else ""
        message = (
            f"Silence on {count(samples, 'sample')}{reached} does not tell dead from rare: {needed:,} independent"
            f" samples are needed to say, at {exact_percent(policy.confidence)} confidence, that a silent unit fires on"
            f" fewer than {exact_percent(policy.rare_below)} of samples."
        )
        suggestion = f"Scan more samples: at least {needed:,}{' that reach it' if reached else ''}."
        yield make_finding("DR006", None, message, suggestion=suggestion)


@finder
def find_skipped(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR008: a site was skipped; an error if `policy.strict`."""
    for site in report.skipped:
        yield Finding(
            rule="DR008",
            severity="error" if policy.strict else "warning",
            site=site.id,
            message=f"This {site.op} was skipped: {' '.join(site.reason.split()).rstrip('.')}.",
            suggestion=RULES["DR008"].fix,
        )


@finder
def find_synthetic(report: Report, _: Policy) -> Iterator[Finding]:
    """DR009: the inputs were synthetic."""
    if report.data.kind == "synthetic":
        samples = count(report.data.samples, "sample")
        message = f"The data was synthetic ({samples}): deadness on noise is a hint, not evidence."
        yield make_finding("DR009", None, message)


@finder
def find_stopped_early(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR010: the scan stopped before the end of the data."""
    after = f"Stopped early, after {count(report.data.samples, 'sample')}: "
    match report.settings.get("stopped"):
        case "pass":
            yield make_finding(
                "DR010",
                None,
                after + "no more units are silent than the gate allows, and a unit that has fired stays alive, so dead"
                " units can no longer fail the gate.",
            )
        case "fail":
            yield make_finding(
                "DR010",
                None,
                after + "too many units are silent. This verdict is likely, not certain: at"
                f" {exact_percent(policy.confidence)} confidence over all units and checks, each of them fires on"
                f" fewer than {exact_percent(policy.rare_below)} of samples, if the samples were drawn at random.",
            )
        case "partly":
            yield make_finding("DR010", None, "One of the scans stopped early, and did not run all of its data.")


@finder
def find_guessed(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR011: no layer around the call says which axis holds the units; an error if `policy.strict`."""
    for stats in report.sites:
        if stats.site.is_guessed:
            shape = " × ".join(str(size) for size in stats.site.shape)
            message = (
                f"Axis {stats.site.feature_axis} of {shape} is assumed to hold the units, but no layer around this"
                f" {stats.site.op} confirms it. No limit on dead units applies to this site."
            )
            yield make_finding("DR011", stats, message, severity="error" if policy.strict else None)


@finder
def find_odd_inputs(report: Report, _: Policy) -> Iterator[Finding]:
    """DR014: the inputs do not look like those of the training. Synthetic ones never do."""
    if report.inputs is not None and report.data.kind != "synthetic":
        for message in odd_inputs(report.inputs):
            yield make_finding("DR014", None, message)
