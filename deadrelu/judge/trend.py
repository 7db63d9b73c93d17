"""The share of dead units at each site over the checkpoints of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.judge.matching import Identity, match
from deadrelu.report import Report, SiteStats

TREND_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One site over the checkpoints: the number and the share (in 0..1) of its dead units at each.

    Both are None where the site was not measured, and where it met NaN or infinity: there `nonfinite` is True.
    `swapped` names the activation that the site has at a checkpoint, if it had another one at first. `still_stuck` is
    then how many of the units that were dead before the swap are saturated or only ever leak.
    """

    id: str
    dead: tuple[int | None, ...]
    share: tuple[float | None, ...]
    nonfinite: tuple[bool, ...]
    swapped: tuple[str | None, ...]
    still_stuck: tuple[int | None, ...]

    @property
    def is_swapped(self) -> bool:
        """Whether the site has another activation at any checkpoint than at first."""
        return any(self.swapped)


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The checkpoints in the given order, and a line per site; `total` is over all sites of each."""

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    lines: tuple[Line, ...]
    total: Line

    def to_dict(self) -> dict[str, Any]:
        """Return the trend as JSON types."""
        return {
            "deadrelu_trend": TREND_VERSION,
            "checkpoints": [
                {"name": name, "sha256": report.model.sha256, "summary": asdict(report.summary)}
                for name, report in zip(self.names, self.reports, strict=True)
            ],
            "sites": [
                {
                    "id": line.id,
                    "dead": list(line.dead),
                    "share": list(line.share),
                    "nonfinite": list(line.nonfinite),
                    "swapped": list(line.swapped),
                    "still_stuck": list(line.still_stuck),
                }
                for line in self.lines
            ],
        }


def trend(named: Sequence[tuple[str, Report]]) -> Trend:
    """Line up the reports of several checkpoints. Raises `UsageError` for none."""
    if not named:
        raise UsageError("no checkpoint was given", hint="deadrelu trend CHECKPOINT CHECKPOINT …")
    reports = tuple(report for _, report in named)
    lines = tuple(map(_line, _courses(reports)))
    unknown = tuple(any(stats.nonfinite_units for stats in report.sites) for report in reports)
    swapped = tuple(next(filter(None, ops), None) for ops in zip(*(line.swapped for line in lines), strict=True))
    swapped = swapped or (None,) * len(reports)
    # A unit on a leak is not dead: the share would fall at a swap, which would look like a cure.
    total = [
        None if lost or op or not report.sites else report.summary
        for report, lost, op in zip(reports, unknown, swapped, strict=True)
    ]
    return Trend(
        names=tuple(name for name, _ in named),
        reports=reports,
        lines=lines,
        total=Line(
            id="",
            dead=tuple(None if summary is None else summary.dead for summary in total),
            share=tuple(None if summary is None else summary.dead_fraction for summary in total),
            nonfinite=unknown,
            swapped=swapped,
            still_stuck=tuple(_sum(each) for each in zip(*(line.still_stuck for line in lines), strict=True)),
        ),
    )


def _courses(reports: Sequence[Report]) -> list[list[SiteStats | None]]:
    """Return the figures of each site at each checkpoint, even if its id changes from one to the next."""
    courses: list[list[SiteStats | None]] = []
    latest: list[SiteStats] = []
    for place, report in enumerate(reports):
        was = match([Identity.of(stats.site) for stats in latest], [Identity.of(stats.site) for stats in report.sites])
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


def _sum(numbers: Sequence[int | None]) -> int | None:
    """The sum of those that are known, if any is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _line(measured: Sequence[SiteStats | None]) -> Line:
    """Make the line of a site from its figures at each checkpoint; its id is the latest one."""
    first = next(stats.site.op for stats in measured if stats is not None)
    swapped = tuple(None if stats is None or stats.site.op == first else stats.site.op for stats in measured)
    stuck: list[int | None] = []
    dead: set[int] = set()
    for stats, op in zip(measured, swapped, strict=True):
        if stats is not None and op is None:
            dead = set(stats.dead_units)
        stuck.append(len(dead & set(stats.stuck_units)) if stats is not None and op is not None else None)
    known = [None if stats is None or stats.nonfinite_units else stats for stats in measured]
    return Line(
        id=[stats for stats in measured if stats is not None][-1].site.id,
        dead=tuple(None if stats is None else stats.dead for stats in known),
        share=tuple(None if stats is None else stats.dead_fraction for stats in known),
        nonfinite=tuple(stats is not None and bool(stats.nonfinite_units) for stats in measured),
        swapped=swapped,
        still_stuck=tuple(stuck),
    )
