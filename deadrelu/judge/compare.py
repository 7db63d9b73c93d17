"""Compare two reports: which sites got worse or better, and which units changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from deadrelu.judge.definitions import Definition
from deadrelu.judge.judgement import judge_again
from deadrelu.judge.matching import Identity, match
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites

COMPARISON_VERSION = 1

Change = Literal["non-finite", "worse", "better", "changed", "same", "new", "swapped", "gone"]


@dataclass(frozen=True, kw_only=True)
class SiteDiff:
    """One site in both reports; `old` or `new` is None if it was not measured there.

    "worse" has more dead units than before, "better" fewer, "changed" as many, but other ones. "non-finite" met NaN or
    infinity, so its dead units cannot be counted. "swapped" has another activation now, `swapped_for`, and no more dead
    units. `newly_dead` units were alive before, `revived` units fire again, `still_stuck` units were dead and now are
    saturated, or only ever leak; all are empty if the site was measured only once. `was` is its id in the old report,
    if it differs.
    """

    id: str
    change: Change
    old: SiteStats | None
    new: SiteStats | None
    newly_dead: tuple[int, ...] = ()
    revived: tuple[int, ...] = ()
    still_stuck: tuple[int, ...] = ()
    skipped: bool = False
    swapped_for: str | None = None
    was: str | None = None

    @property
    def has_moved(self) -> bool:
        """Whether its id changed, and not only the way a version of deadrelu numbers it."""
        return self.was is not None and not (self.new and self.new.site.alias == self.was)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed from `old` to `new`: the sites in the order of `new`, then those that are only in `old`."""

    old: Report
    new: Report
    sites: tuple[SiteDiff, ...]

    @property
    def swapped(self) -> tuple[SiteDiff, ...]:
        """The sites that have another activation now."""
        return tuple(site for site in self.sites if site.swapped_for is not None)

    @property
    def worse(self) -> tuple[SiteDiff, ...]:
        """The sites with more dead units than before or with NaN, and new sites with a dead unit."""
        bad = ("worse", "non-finite")
        return tuple(s for s in self.sites if s.change in bad or (s.change == "new" and s.new and s.new.dead))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON types; units by number, fractions in 0..1."""
        return {
            "deadrelu_diff": COMPARISON_VERSION,
            "worse": bool(self.worse),
            "old": _report(self.old),
            "new": _report(self.new),
            **{name: value for name in ("definition", "tau") if (value := self.new.settings.get(name)) is not None},
            "sites": [
                {
                    "id": site.id,
                    **({} if site.was is None else {"was": site.was}),
                    "change": site.change,
                    "skipped": site.skipped,
                    "swapped_for": site.swapped_for,
                    "units": [stats and stats.site.units for stats in (site.old, site.new)],
                    "nonfinite": [stats and len(stats.nonfinite_units) for stats in (site.old, site.new)],
                    "dead": [stats and stats.dead for stats in (site.old, site.new)],
                    "newly_dead": list(site.newly_dead),
                    "revived": list(site.revived),
                    "still_stuck": list(site.still_stuck),
                }
                for site in self.sites
            ],
        }


def by_definition(report: Report, definition: Definition | None, tau: float | None) -> Report:
    """Return the report with the units of a definition in place of its dead units, for a comparison by it.

    Raises `UsageError` for a threshold out of range, and if too little was measured.
    """
    judged = judge_again(report, definition, tau)
    sites = Sites(replace(stats, dead_units=stats.judged_units) for stats in judged.sites)
    return replace(judged, sites=sites)


def compare(old: Report, new: Report) -> Comparison:
    """Compare `new` with `old` site by site, even where an id has changed."""
    return Comparison(old=old, new=new, sites=tuple(_changes(old, new)))


def _changes(old: Report, new: Report) -> Iterator[SiteDiff]:
    """Yield every site of either report."""
    before = {stats.site.id: stats for stats in old.sites}
    after = {stats.site.id: stats for stats in new.sites}
    skipped = {site.id for report in (old, new) for site in report.skipped}
    places = match([Identity.of(s.site) for s in old.sites], [Identity.of(s.site) for s in new.sites])
    was = {name: old.sites[place].site.id for name, place in places.items()}
    known = set(was.values())
    for name, stats in after.items():
        if name in was:
            yield _change(before[was[name]], stats)
        else:
            change: Change = "non-finite" if stats.nonfinite_units else "new"
            yield SiteDiff(id=name, change=change, old=None, new=stats, skipped=name in skipped)
    for name, stats in before.items():
        if name not in known:
            yield SiteDiff(id=name, change="gone", old=stats, new=None, skipped=name in skipped)


def _change(old: SiteStats, new: SiteStats) -> SiteDiff:
    """Compare a site that was measured in both reports."""
    newly = set(new.dead_units) - set(old.dead_units)
    stuck = set(old.dead_units) & set(new.stuck_units)
    revived = set(old.dead_units) - set(new.dead_units) - set(new.nonfinite_units) - stuck
    change: Change = "worse" if new.dead > old.dead else "better" if new.dead < old.dead else "same"
    is_swapped = old.site.op != new.site.op
    if new.nonfinite_units:
        change = "non-finite"
    elif is_swapped and change != "worse":
        change = "swapped"
    return SiteDiff(
        id=new.site.id,
        change="changed" if change == "same" and newly else change,
        old=old,
        new=new,
        newly_dead=tuple(sorted(newly)),
        revived=tuple(sorted(revived)),
        still_stuck=tuple(sorted(stuck)),
        swapped_for=new.site.op if is_swapped else None,
        was=old.site.id if old.site.id != new.site.id else None,
    )


def _report(report: Report) -> dict[str, Any]:
    """Return what JSON holds of a whole report."""
    return {"model": report.model.to_dict(), "data": asdict(report.data), "summary": asdict(report.summary)}
