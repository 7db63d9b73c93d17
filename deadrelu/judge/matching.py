"""Match the sites of one report or baseline with those of another: by id, or by what an edit of the model keeps.

Two sites match only if units, activation and producer agree: the same id may mean another layer now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deadrelu.report import Report, Site, Skipped


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a site is recognised by. `units` is None if it was not measured.

    `op` and `after` are None if unknown: earlier versions recorded only ids and units.
    """

    id: str
    alias: str | None = None
    op: str | None = None
    after: str | None = None
    units: int | None = None

    @classmethod
    def of(cls, site: Site | Skipped) -> Identity:
        """Return the identity of a site of a report."""
        if isinstance(site, Skipped):
            return cls(id=site.id, alias=site.alias, op=site.op)
        return cls(id=site.id, alias=site.alias, op=site.op, after=site.after, units=site.units)


def identities(report: Report) -> list[Identity]:
    """Return the identities of all sites of a report, the measured ones first."""
    return [*(Identity.of(stats.site) for stats in report.sites), *map(Identity.of, report.skipped)]


def match(old: Sequence[Identity], new: Sequence[Identity]) -> dict[str, int]:
    """Return for each new id the index of its match in `old`; a site without a match is left out.

    First come sites with the same (or former) id, units, activation and producer; then sites that have moved, with only
    the id changed; last, sites with the same id after another producer.
    """
    found: dict[str, int] = {}
    taken: set[int] = set()
    for rule in _RULES:
        places: dict[_Key, list[int]] = {}
        for place, identity in enumerate(old):
            for key in rule.old(identity) if place not in taken else ():
                places.setdefault(key, []).append(place)
        keys = rule.new or rule.old
        for identity in new:
            if identity.id in found:
                continue
            candidates = (place for key in keys(identity) for place in places.get(key, ()) if place not in taken)
            same = next((place for place in candidates if rule.is_same(old[place], identity)), None)
            if same is not None:
                found[identity.id] = same
                taken.add(same)
    return found


def _alike(a: Identity, b: Identity) -> bool:
    """Whether nothing known of both differs."""
    if a.units is None or b.units is None:
        return a.op is None or b.op is None or a.op == b.op
    return a.units == b.units and (a.op is None or b.op is None or (a.op, a.after) == (b.op, b.after))


def _identical(a: Identity, b: Identity) -> bool:
    """Whether everything is known of both, and equal."""
    return a.units is not None and a.after is not None and (a.units, a.op, a.after) == (b.units, b.op, b.after)


def _as_wide(a: Identity, b: Identity) -> bool:
    """Whether units and activation are the same, after any producer."""
    return a.units is not None and (a.units, a.op) == (b.units, b.op)


_Key = tuple[str | int | None, ...]
_Keys = Callable[[Identity], Sequence[_Key]]


@dataclass(frozen=True)
class _Rule:
    """Two sites that share a key match if `is_same` holds; `new` gives other keys to the new site."""

    is_same: Callable[[Identity, Identity], bool]
    old: _Keys
    new: _Keys | None = None


_RULES = (
    _Rule(_alike, lambda site: [(site.id,)]),
    _Rule(
        _alike,
        lambda site: [("id", site.id), ("former", site.alias)],
        lambda site: [("id", site.alias), ("former", site.id)],
    ),
    _Rule(_identical, lambda site: [(site.op, site.after, site.units)]),
    _Rule(_as_wide, lambda site: [(site.id,)]),
)
