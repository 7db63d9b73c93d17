"""The sites of a report as rows, for every format with a table: their condition, their figures as text, the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from deadrelu.judge.gradients import site_gradient
from deadrelu.render.glyphs import BLOCKS, Glyphs
from deadrelu.report import Finding, Report, Severity, SiteStats
from deadrelu.text.wording import count, percent

MOST_ROWS = 40
"""With more sites than this, the terminal and the notebook only count the healthy ones."""


class Condition(IntEnum):
    """How a site fares, from worst to best."""

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


@dataclass(frozen=True)
class Row:
    """A site and its condition."""

    stats: SiteStats
    condition: Condition

    @property
    def is_sick(self) -> bool:
        """Whether the site is always shown: it has a dead or saturated unit, a non-finite value or a warning."""
        stats = self.stats
        unwell = stats.dead or stats.judged or stats.saturated or stats.nonfinite_units
        return bool(unwell) or self.condition <= Condition.WARNING

    @property
    def is_dead(self) -> bool:
        """Whether every unit is dead."""
        return self.condition is Condition.DEAD


def site_rows(report: Report) -> list[Row]:
    """Return a row for each site, in the order in which they ran."""
    found: dict[str | None, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.site, []).append(finding)
    return [Row(stats, _condition(stats, found.get(stats.site.id, []))) for stats in report.sites]


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """Return every sick site, then the worst of the others while there is room, in the order in which they ran."""
    order = sorted(
        range(len(rows)), key=lambda n: (not rows[n].is_sick, rows[n].condition, -len(rows[n].stats.rare_units))
    )
    return [rows[n] for n in sorted(order[: max(sum(row.is_sick for row in rows), MOST_ROWS // 2)])]


def figures(stats: SiteStats, glyphs: Glyphs = BLOCKS) -> dict[str, str]:
    """Return the figures of a site as text, by the name of their column."""
    return {
        "units": f"{stats.site.units:,}{'?' if stats.site.is_guessed else ''}",
        "dead": f"{stats.judged:,}",
        "share": percent(stats.judged_fraction),
        "saturated": f"{stats.saturated:,}",
        "rare": f"{len(stats.rare_units):,}" if stats.knows_rates else glyphs.dash,
        "always on": f"{len(stats.always_on_units):,}" if stats.knows_rates else glyphs.dash,
        "headroom": glyphs.number(stats.headroom),
        "gradient": glyphs.number(site_gradient(stats)),
    }


def total_figures(report: Report, glyphs: Glyphs = BLOCKS) -> dict[str, str]:
    """Return the sums over all sites as text, by the name of their column."""
    summary, known = report.summary, knows_rates(report)
    dead = judged(report)
    return {
        "site": count(summary.sites, "site"),
        "units": f"{summary.units:,}",
        "dead": f"{dead:,}",
        "share": percent(dead / summary.units if summary.units else 0.0),
        "saturated": f"{saturated(report):,}",
        "rare": f"{summary.rare:,}" if known else glyphs.dash,
        "always on": f"{summary.always_on:,}" if known else glyphs.dash,
    }


def judged(report: Report) -> int:
    """Return how many units of all sites limits on dead units count."""
    return sum(stats.judged for stats in report.sites)


def dead_title(report: Report) -> str:
    """Return the title of the column of dead units: the name of the definition, if there is one."""
    return str(report.settings.get("definition") or "dead")


def ladder(report: Report) -> str:
    """Return in words how many units are dead at each threshold of the definition; nothing without a ladder."""
    rungs = [stats.definition_ladder for stats in report.sites if stats.definition_ladder]
    sums = [(same[0].tau, sum(rung.units for rung in same)) for same in zip(*rungs, strict=True)]
    parts = ", ".join(f"{units:,} at τ = {tau:g}" for tau, units in sums)
    return f"{dead_title(report)}: {parts}, of {count(report.summary.units, 'unit')}" if parts else ""


def saturated(report: Report) -> int:
    """Return how many units of all sites are saturated. Tables have a column for them only if there is one."""
    return sum(stats.saturated for stats in report.sites)


def knows_rates(report: Report) -> bool:
    """Return whether the firing rates of all sites were counted."""
    return all(stats.knows_rates for stats in report.sites)


def firing_rates(stats: SiteStats) -> Iterator[float]:
    """Yield the firing rates for a histogram: without dead, saturated and non-finite units."""
    apart = {*stats.dead_units, *stats.saturated_units, *stats.nonfinite_units}
    return (rate for unit, rate in enumerate(stats.firing_rate) if rate is not None and unit not in apart)


def _condition(stats: SiteStats, findings: list[Finding]) -> Condition:
    """The worst finding; dead and non-finite units that no rule reports are a warning all the same."""
    if stats.judged == stats.site.units:
        return Condition.DEAD
    worst = min((_OF_SEVERITY[finding.severity] for finding in findings), default=Condition.HEALTHY)
    reported = {"DR001", "DR003"} & {finding.rule for finding in findings}
    return min(worst, Condition.WARNING) if (stats.judged or stats.nonfinite_units) and not reported else worst
