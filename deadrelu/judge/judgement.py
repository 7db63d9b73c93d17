"""Judge a report by a policy: its findings, its verdict and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from deadrelu.errors import ExitCode
from deadrelu.judge import doubts, findings  # noqa: F401  they register their finders
from deadrelu.judge.definitions import Definition, check_gradients, check_level, ladder_of, units_within
from deadrelu.judge.finders import FINDERS
from deadrelu.judge.globs import Named
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import rare_units, silence_bound
from deadrelu.report import Finding, Report, Severity, SiteStats, Verdict
from deadrelu.report.site import Sites

_OF_BASELINE = ("baseline", "tolerance", "standing")
_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def judge(report: Report, policy: Policy) -> Report:
    """Return the report with the findings, the verdict and the settings of a policy; judging twice changes nothing.

    Rare units, silence bounds and the units of a definition follow the policy too, so a stored report can be judged
    again. Findings are sorted by severity, then by site; those on the whole scan come before those on sites, and DR003
    comes first. DR014 comes before them all, since it casts doubt on each. Raises `UsageError` if too little was
    measured for the definition.
    """
    check_level(policy.definition, report.settings.get("stats", "full"))
    check_gradients(policy.definition, has_loss=not report.sites or any(stats.gradient_score for stats in report.sites))
    sites = Sites(_restate(stats, policy) for stats in report.sites)
    settings = {name: value for name, value in report.settings.items() if name not in ("definition", "tau")}
    report = replace(report, sites=sites, settings={**settings, **policy.to_settings()})
    named: dict[str | None, Named] = {stats.site.id: stats.site for stats in sites}
    named |= {skipped.id: skipped for skipped in report.skipped}
    found = (finding for find in FINDERS for finding in find(report, policy))
    return conclude(report, [f for f in found if policy.counts(f.rule, named.get(f.site, f.site))])


def judge_again(report: Report, definition: Definition | None, tau: float | None) -> Report:
    """Return a judged report judged by its own limits and this definition of a dead unit, without its baseline.

    Raises `UsageError` for a threshold out of range, and if too little was measured for the definition.
    """
    policy = replace(Policy.from_settings(report.settings), definition=definition, tau=tau)
    settings = {name: value for name, value in report.settings.items() if name not in _OF_BASELINE}
    return judge(replace(report, settings=settings), policy)


def conclude(report: Report, found: Iterable[Finding]) -> Report:
    """Return the report with these findings in order, and with the verdict that follows from them.

    If the feature axis of every site is a guess, nothing was measured that could pass.
    """
    order = {stats.site.id: place for place, stats in enumerate(report.sites)}

    def place(finding: Finding) -> tuple[bool, int, bool, int]:
        at = -1 if finding.site is None else order.get(finding.site, len(order))
        return finding.rule != "DR014", _RANK[finding.severity], finding.rule != "DR003", at

    ordered = tuple(sorted(found, key=place))
    verdict: Verdict = "pass" if report.gated else "nothing measured"
    if report.sites and any(finding.severity == "error" for finding in ordered):
        verdict = "fail"
    return replace(report, findings=ordered, verdict=verdict)


def exit_code(report: Report, *, exit_zero: bool = False) -> ExitCode:
    """Return the exit code of a judged report. `exit_zero` hides a failed gate, and nothing else."""
    if report.verdict == "nothing measured":
        return ExitCode.NOTHING_MEASURED
    return ExitCode.GATE_FAILED if report.verdict == "fail" and not exit_zero else ExitCode.OK


def _restate(stats: SiteStats, policy: Policy) -> SiteStats:
    """Return the figures of a site with the rare units, the silence bound and the definition of the policy."""
    definition, tau = policy.definition, policy.tau
    return replace(
        stats,
        rare_units=rare_units(stats.firing_rate, stats.nonfinite_units, policy.rare_below),
        silence_bound=silence_bound(stats.samples, policy.confidence),
        definition_units=None if definition is None or tau is None else units_within(stats, definition, tau),
        definition_ladder=() if definition is None else ladder_of(stats, definition),
    )
