"""How a site fares, from its figures and its findings: what makes it stand out in every format."""

from __future__ import annotations

from enum import IntEnum

from deadrelu.report import Finding, Report, Severity, SiteStats


class Condition(IntEnum):
    """From worst to best."""

    DEAD = 0
    ERROR = 1
    WARNING = 2
    NOTE = 3
    HEALTHY = 4


_OF_SEVERITY: dict[Severity, Condition] = {
    "error": Condition.ERROR,
    "warning": Condition.WARNING,
    "note": Condition.NOTE,
}


def conditions(report: Report) -> tuple[Condition, ...]:
    """The condition of each site, in the order of the sites."""
    found: dict[str | None, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.site, []).append(finding)
    return tuple(_condition(stats, found.get(stats.site.id, [])) for stats in report.sites)


def sick(stats: SiteStats, condition: Condition) -> bool:
    """Whether the site must be shown, however many there are: a dead unit, a value that is not finite, a finding."""
    return bool(stats.dead or stats.nonfinite_units) or condition <= Condition.WARNING


def _condition(stats: SiteStats, findings: list[Finding]) -> Condition:
    """The worst of the findings; where no rule spoke of dead units, they are a warning all the same."""
    if stats.dead == stats.site.units:
        return Condition.DEAD
    worst = min((_OF_SEVERITY[finding.severity] for finding in findings), default=Condition.HEALTHY)
    spoken = {"DR001", "DR003"} & {finding.rule for finding in findings}
    return min(worst, Condition.WARNING) if (stats.dead or stats.nonfinite_units) and not spoken else worst
