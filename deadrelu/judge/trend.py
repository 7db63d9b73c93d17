"""The share of dead units at each site over the checkpoints of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.judge.matching import Identity, match
from deadrelu.judge.swapped import LostSite, match_leaky
from deadrelu.report import Leaky, Report, Site, SiteStats

TREND_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One site over the checkpoints: the number and the share (in 0..1) of its dead units at each.

    Both are None where the site was not measured, and where it met NaN or infinity: there `nonfinite` is True.
    `swapped` names the leaky activation that the site has at a checkpoint, if any.
    """

    id: str
    dead: tuple[int | None, ...]
    share: tuple[float | None, ...]
    nonfinite: tuple[bool, ...]
    swapped: tuple[str | None, ...]

    @property
    def is_swapped(self) -> bool:
        """Whether the site is leaky at any checkpoint."""
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
                }
                for line in self.lines
            ],
        }


def trend(named: Sequence[tuple[str, Report]]) -> Trend:
    """Line up the reports of several checkpoints. Raises `UsageError` for none."""
    if not named:
        raise UsageError("no checkpoint was given", hint="deadrelu trend CHECKPOINT CHECKPOINT …")
    reports = tuple(report for _, report in named)
    courses = _courses(reports)
    leaky = [_leaky(courses, place, report) for place, report in enumerate(reports)]
    unknown = tuple(any(stats.nonfinite_units for stats in report.sites) for report in reports)
    # Without the swapped sites the share would fall, which would look like a cure.
    total = [
        None if lost or gone or not r.sites else r.summary
        for r, lost, gone in zip(reports, unknown, leaky, strict=True)
    ]
    return Trend(
        names=tuple(name for name, _ in named),
        reports=reports,
        lines=tuple(_line(course, [at.get(number) for at in leaky]) for number, course in enumerate(courses)),
        total=Line(
            id="",
            dead=tuple(None if summary is None else summary.dead for summary in total),
            share=tuple(None if summary is None else summary.dead_fraction for summary in total),
            nonfinite=unknown,
            swapped=tuple(next((each.op for each in gone.values()), None) for gone in leaky),
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


def _leaky(courses: Sequence[Sequence[SiteStats | None]], place: int, report: Report) -> dict[int, Leaky]:
    """Return, by number, the courses without figures at a checkpoint that are leaky there."""
    lost: dict[str, tuple[int, Site]] = {}
    for number, course in enumerate(courses):
        if course[place] is None:
            site = _known(course, place)
            lost.setdefault(site.id, (number, site))
    found = match_leaky([LostSite.of(site) for _, site in lost.values()], report.leaky)
    return {lost[name][0]: each for name, each in found.items()}


def _known(course: Sequence[SiteStats | None], place: int) -> Site:
    """Return a site as last measured before a checkpoint, or as first measured after it."""
    return next(stats.site for stats in (*reversed(course[:place]), *course[place:]) if stats is not None)


def _line(measured: Sequence[SiteStats | None], leaky: Sequence[Leaky | None]) -> Line:
    """Make the line of a site from its figures at each checkpoint; its id is the latest one."""
    known = [None if stats is None or stats.nonfinite_units else stats for stats in measured]
    return Line(
        id=[stats for stats in measured if stats is not None][-1].site.id,
        dead=tuple(None if stats is None else stats.dead for stats in known),
        share=tuple(None if stats is None else stats.dead_fraction for stats in known),
        nonfinite=tuple(stats is not None and bool(stats.nonfinite_units) for stats in measured),
        swapped=tuple(None if each is None else each.op for each in leaky),
    )
