"""Which site of one report, or baseline, is which of another: by id, by what an edit leaves as it was, or by neither.

Two sites are compared only where units, activation and producer agree: an id alone may have come to mean another layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deadrelu.report import Report, Site, Skipped


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a site is recognised by. `units` is None where it was not measured.

    `op` is None where it is not known, and `after` neither: earlier versions noted ids and units alone.
    """

    id: str
    alias: str | None = None
    op: str | None = None
    after: str | None = None
    units: int | None = None

    @classmethod
    def of(cls, site: Site | Skipped) -> Identity:
        """The mark of a site of a report."""
        if isinstance(site, Skipped):
            return cls(id=site.id, alias=site.alias, op=site.op)
        return cls(id=site.id, alias=site.alias, op=site.op, after=site.after, units=site.units)


def identities(report: Report) -> list[Identity]:
    """The marks of all sites of a report, measured ones first."""
    return [*(Identity.of(stats.site) for stats in report.sites), *map(Identity.of, report.skipped)]


def match(old: Sequence[Identity], new: Sequence[Identity]) -> dict[str, int]:
    """Which of the old ones each new one is, as its place among them, by new id; what is not there has no match.

    First the same id, or the former one, with the same units, activation and producer; then what has moved: another
    id, and all the rest the same; at last the same id after another producer.
    """
    found: dict[str, int] = {}
    taken: set[int] = set()
    for rule in _RULES:
        places: dict[_Key, list[int]] = {}
        for place, mark in enumerate(old):
            for key in rule.old(mark) if place not in taken else ():
                places.setdefault(key, []).append(place)
        for mark in new:
            if mark.id in found:
                continue
            candidates = (place for key in rule.new(mark) for place in places.get(key, ()) if place not in taken)
            same = next((place for place in candidates if rule.is_same(old[place], mark)), None)
            if same is not None:
                found[mark.id] = same
                taken.add(same)
    return found


def is_renumbered(old: str, new: Identity) -> bool:
    """Whether a site has another id only because this version names it in another way."""
    return old == new.alias


def _alike(a: Identity, b: Identity) -> bool:
    """Whether nothing that is known of both differs."""
    if a.units is None or b.units is None:
        return a.op is None or b.op is None or a.op == b.op
    return a.units == b.units and (a.op is None or b.op is None or (a.op, a.after) == (b.op, b.after))


def _identical(a: Identity, b: Identity) -> bool:
    """Whether all is known of both, and the same."""
    return a.units is not None and a.after is not None and (a.units, a.op, a.after) == (b.units, b.op, b.after)


def _as_wide(a: Identity, b: Identity) -> bool:
    """Whether units and activation are the same, whatever comes before it."""
    return a.units is not None and (a.units, a.op) == (b.units, b.op)


_Key = tuple[str | int | None, ...]


@dataclass(frozen=True)
class _Rule:
    """Two sites may be the same where they share a key, and are if `is_same` says so."""

    old: Callable[[Identity], Sequence[_Key]]
    new: Callable[[Identity], Sequence[_Key]]
    is_same: Callable[[Identity, Identity], bool]


_RULES = (
    _Rule(lambda mark: [(mark.id,)], lambda mark: [(mark.id,)], _alike),
    _Rule(
        lambda mark: [("id", mark.id), ("former", mark.alias)],
        lambda mark: [("id", mark.alias), ("former", mark.id)],
        _alike,
    ),
    _Rule(
        lambda mark: [(mark.op, mark.after, mark.units)],
        lambda mark: [(mark.op, mark.after, mark.units)],
        _identical,
    ),
    _Rule(lambda mark: [(mark.id,)], lambda mark: [(mark.id,)], _as_wide),
)
