"""Finds the sites that a later scan lists as leaky: a patch has put another activation in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deadrelu.report import Leaky, Site


@dataclass(frozen=True, kw_only=True)
class LostSite:
    """A site that was measured before and is not now, as far as it is known; None is unknown."""

    id: str
    units: int | None
    module: str | None = None
    after: str | None = None

    @classmethod
    def of(cls, site: Site) -> LostSite:
        """What a report knows of a site."""
        return cls(id=site.id, units=site.units, module=site.module, after=site.after)


def match_leaky(gone: Iterable[LostSite], leaky: Iterable[Leaky]) -> Mapping[str, Leaky]:
    """Which leaky call each of the sites has become, by the id that it had.

    A module's call keeps its id. A functional call has its function in its id, and torch's encoder layers keep their
    ReLU as a function and anything else as a module: such calls are found by the module whose forward makes them and
    by the layer before them, in the order in which they ran. The number of units must be the same in any case.
    """
    left = {each.id: each for each in leaky}
    found: dict[str, Leaky] = {}
    for is_same in (_same_id, _same_place, _same_layer):
        for site in gone:
            if site.id in found:
                continue
            match = next((each for each in left.values() if is_same(site, each) and _same_units(site, each)), None)
            if match is not None:
                found[site.id] = left.pop(match.id)
    return found


def _same_units(site: LostSite, leaky: Leaky) -> bool:
    return None in (site.units, leaky.units) or site.units == leaky.units


def _same_id(site: LostSite, leaky: Leaky) -> bool:
    return site.id == leaky.id


def _same_place(site: LostSite, leaky: Leaky) -> bool:
    """Whether both are functional calls with the same name before the function, and after the same layer."""
    place, colon, _ = site.id.rpartition(":")
    there, also, _ = leaky.id.rpartition(":")
    return bool(colon and also) and place == there and (None in (site.after, leaky.after) or site.after == leaky.after)


def _same_layer(site: LostSite, leaky: Leaky) -> bool:
    """Whether a functional call and the call of a module inside the same module follow the same layer."""
    inside = site.module is not None and leaky.module.startswith(f"{site.module}." if site.module else "")
    return ":" in site.id and inside and site.after is not None and site.after == leaky.after
