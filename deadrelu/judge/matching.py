"""Match the sites of one report or baseline with those of another: by id, or by what an edit of the model keeps.

Two sites match only if units, activation and producer agree: the same id may mean another layer now. A ReLU matches
what was put in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deadrelu.activations import REPLACEMENTS, STANDINS
from deadrelu.report import Report, Site, Skipped


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a site is recognised by. `units` is None if it was not measured.

    `op` and `after` are None if unknown: earlier versions recorded only ids and units. `module` is the module of a
    measured site.
    """

    id: str
    alias: str | None = None
    op: str | None = None
    after: str | None = None
    units: int | None = None
    module: str | None = None

    @classmethod
    def of(cls, site: Site | Skipped) -> Identity:
        """Return the identity of a site of a report."""
        if isinstance(site, Skipped):
            return cls(id=site.id, alias=site.alias, op=site.op)
        return cls(id=site.id, alias=site.alias, op=site.op, after=site.after, units=site.units, module=site.module)


def identities(report: Report) -> list[Identity]:
    """Return the identities of all sites of a report, the measured ones first."""
    return [*(Identity.of(stats.site) for stats in report.sites), *map(Identity.of, report.skipped)]


def match(old: Sequence[Identity], new: Sequence[Identity]) -> dict[str, int]:
    """Return for each new id the index of its match in `old`; a site without a match is left out.

    First come sites with the same (or former) id, units, activation and producer; then sites that have moved, with only
    the id changed; then sites with the same id after another producer. Last come swapped activations. The call of a
    module keeps its id. A functional call has the function in its id, and torch's encoder layers store a ReLU as a
    function but any other activation as a module: such calls are matched by the module whose forward makes them and by
    the layer before them, in the order in which they ran.
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


def _swapped(a: Identity, b: Identity) -> bool:
    """Whether the activations differ, but `patch` may have put one in the place of the other, with as many units."""
    if a.op is None or b.op is None or a.op == b.op or not {a.op, b.op} & _IN_PLACE:
        return False
    return (a.units is None or b.units is None or a.units == b.units) and (
        a.after is None or b.after is None or a.after == b.after
    )


def _swapped_inside(a: Identity, b: Identity) -> bool:
    """Whether a function was swapped for a module inside of the module that called it."""
    known = a.module is not None and b.module is not None and a.after is not None
    return known and _swapped(a, b) and f"{b.module}".startswith(f"{a.module}." if a.module else "")


def _place(site: Identity) -> list[_Key]:
    """The id of a functional call without the function and its number."""
    place, colon, _ = site.id.rpartition(":")
    return [(place,)] if colon else []


_IN_PLACE = STANDINS | REPLACEMENTS.keys()
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
    _Rule(_swapped, lambda site: [(site.id,)]),
    _Rule(_swapped, _place),
    _Rule(_swapped_inside, lambda site: [(site.after,)] if ":" in site.id else [], lambda site: [(site.after,)]),
)
