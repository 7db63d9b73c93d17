"""The dead share of each site over the checkpoints of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.judge.matching import Mark, match
from deadrelu.report import Report, SiteStats

TREND_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One site over the checkpoints: its dead units and the share in 0..1 at each; None where nothing can be said.

    That is where it was not measured, and where it met NaN or infinity: there `nonfinite` is True.
    """

    id: str
    dead: tuple[int | None, ...]
    share: tuple[float | None, ...]
    nonfinite: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The checkpoints in the order given, by name, and their lines; `total` is over all sites of each."""

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    lines: tuple[Line, ...]
    total: Line

    def to_dict(self) -> dict[str, Any]:
        """The trend as JSON types."""
        return {
            "deadrelu_trend": TREND_VERSION,
            "checkpoints": [
                {"name": name, "sha256": report.model.sha256, "summary": asdict(report.summary)}
                for name, report in zip(self.names, self.reports, strict=True)
            ],
            "sites": [
                {"id": line.id, "dead": list(line.dead), "share": list(line.share), "nonfinite": list(line.nonfinite)}
                for line in self.lines
            ],
        }


def trend(named: Sequence[tuple[str, Report]]) -> Trend:
    """Line up the reports of several checkpoints. Raises `UsageError` for none."""
    if not named:
        raise UsageError("there is no checkpoint", hint="deadrelu trend CHECKPOINT CHECKPOINT …")
    reports = tuple(report for _, report in named)
    unknown = tuple(any(stats.nonfinite_units for stats in report.sites) for report in reports)
    total = [None if lost or not r.sites else r.summary for r, lost in zip(reports, unknown, strict=True)]
    return Trend(
        names=tuple(name for name, _ in named),
        reports=reports,
        lines=tuple(_line(measured) for measured in _courses(reports)),
        total=Line(
            id="",
            dead=tuple(None if summary is None else summary.dead for summary in total),
            share=tuple(None if summary is None else summary.dead_fraction for summary in total),
            nonfinite=unknown,
        ),
    )


def _courses(reports: Sequence[Report]) -> list[list[SiteStats | None]]:
    """The figures of each site at each checkpoint, also where its id has changed from one to the next."""
    courses: list[list[SiteStats | None]] = []
    latest: list[SiteStats] = []
    for place, report in enumerate(reports):
        was = match([Mark.of(stats.site) for stats in latest], [Mark.of(stats.site) for stats in report.sites])
        for course in courses:
            course.append(None)
        for stats in report.sites:
            at = was.get(stats.site.id)
            if at is None:
                courses.append([None] * place + [stats])
                latest.append(stats)
            else:
                courses[at][place], latest[at] = stats, stats
    return courses


def _line(measured: Sequence[SiteStats | None]) -> Line:
    """One site, from its figures at each checkpoint; its id is the latest."""
    known = [None if stats is None or stats.nonfinite_units else stats for stats in measured]
    return Line(
        id=[stats for stats in measured if stats is not None][-1].site.id,
        dead=tuple(None if stats is None else stats.dead for stats in known),
        share=tuple(None if stats is None else stats.dead_fraction for stats in known),
        nonfinite=tuple(stats is not None and bool(stats.nonfinite_units) for stats in measured),
    )
