"""Two reports held against each other: which sites got worse, which better, and unit by unit what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from deadrelu.judge.matching import Identity, match
from deadrelu.judge.swapped import LostSite, match_leaky
from deadrelu.report import Report, SiteStats

COMPARISON_VERSION = 1

Change = Literal["non-finite", "worse", "better", "changed", "same", "new", "swapped", "gone"]


@dataclass(frozen=True, kw_only=True)
class SiteDiff:
    """One site in both reports; `old` or `new` is None where it was not measured there.

    "worse" has more dead units than before, "better" fewer, "changed" as many, but others; "non-finite" met NaN or
    infinity, so that its dead cannot be counted; "swapped" has another activation now, `swapped_for`, which leaks and
    is not measured. `newly_dead` were not dead before, `revived` fire again; both are empty where the site was measured
    once only. `was` is its id in the old report, where that is another.
    """

    id: str
    change: Change
    old: SiteStats | None
    new: SiteStats | None
    newly_dead: tuple[int, ...] = ()
    revived: tuple[int, ...] = ()
    skipped: bool = False
    swapped_for: str | None = None
    was: str | None = None

    @property
    def has_moved(self) -> bool:
        """Whether its id changed, and not only the way in which a version numbers it."""
        return self.was is not None and not (self.new and self.new.site.alias == self.was)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two reports and what changed from `old` to `new`, by site: in the order of `new`, and then what is not in it."""

    old: Report
    new: Report
    sites: tuple[SiteDiff, ...]

    @property
    def swapped(self) -> tuple[SiteDiff, ...]:
        """The sites with a leaky activation now."""
        return tuple(site for site in self.sites if site.change == "swapped")

    @property
    def worse(self) -> tuple[SiteDiff, ...]:
        """The sites with more dead units than before, or with NaN; new ones count, if any of their units is dead."""
        bad = ("worse", "non-finite")
        return tuple(s for s in self.sites if s.change in bad or (s.change == "new" and s.new and s.new.dead))

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON types; units by number, fractions in 0..1."""
        return {
            "deadrelu_diff": COMPARISON_VERSION,
            "worse": bool(self.worse),
            "old": _told(self.old),
            "new": _told(self.new),
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
                }
                for site in self.sites
            ],
        }


def compare(old: Report, new: Report) -> Comparison:
    """Hold `new` against `old`, site by site, also where an id has changed."""
    return Comparison(old=old, new=new, sites=tuple(_changes(old, new)))


def _changes(old: Report, new: Report) -> Iterator[SiteDiff]:
    """Every site of either."""
    before = {stats.site.id: stats for stats in old.sites}
    after = {stats.site.id: stats for stats in new.sites}
    skipped = {site.id for report in (old, new) for site in report.skipped}
    places = match([Identity.of(s.site) for s in old.sites], [Identity.of(s.site) for s in new.sites])
    was = {name: old.sites[place].site.id for name, place in places.items()}
    known = set(was.values())
    lost = [LostSite.of(stats.site) for name, stats in before.items() if name not in known and name not in skipped]
    leaky = match_leaky(lost, new.leaky)
    for name, stats in after.items():
        if name in was:
            yield _change(before[was[name]], stats)
        else:
            change: Change = "non-finite" if stats.nonfinite_units else "new"
            yield SiteDiff(id=name, change=change, old=None, new=stats, skipped=name in skipped)
    for name, stats in before.items():
        if name in leaky:
            yield SiteDiff(id=name, change="swapped", old=stats, new=None, swapped_for=leaky[name].op)
        elif name not in known:
            yield SiteDiff(id=name, change="gone", old=stats, new=None, skipped=name in skipped)


def _change(old: SiteStats, new: SiteStats) -> SiteDiff:
    """One site that was measured in both."""
    newly = set(new.dead_units) - set(old.dead_units)
    revived = set(old.dead_units) - set(new.dead_units) - set(new.nonfinite_units)
    change: Change = "worse" if new.dead > old.dead else "better" if new.dead < old.dead else "same"
    if new.nonfinite_units:
        change = "non-finite"
    return SiteDiff(
        id=new.site.id,
        change="changed" if change == "same" and newly else change,
        old=old,
        new=new,
        newly_dead=tuple(sorted(newly)),
        revived=tuple(sorted(revived)),
        was=old.site.id if old.site.id != new.site.id else None,
    )


def _told(report: Report) -> dict[str, Any]:
    """What is said of a whole report."""
    return {"model": asdict(report.model), "data": asdict(report.data), "summary": asdict(report.summary)}
