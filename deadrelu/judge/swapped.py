"""Find the sites that a later scan lists as leaky, because a patch has replaced their activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deadrelu.activations import LEAKY
from deadrelu.report import Leaky, Site


@dataclass(frozen=True, kw_only=True)
class LostSite:
    """A site that was measured before and is not measured now; None is unknown."""

    id: str
    units: int | None
    module: str | None = None
    after: str | None = None

    @classmethod
    def of(cls, site: Site) -> LostSite:
        """Make one from a site of a report."""
        return cls(id=site.id, units=site.units, module=site.module, after=site.after)


def standing_in(sites: Iterable[Site]) -> tuple[Leaky, ...]:
    """Return the sites whose activation a ReLU may have been swapped for."""
    return tuple(
        Leaky(id=s.id, op=s.op, module=s.module, call=s.call, calls=s.calls, after=s.after, units=s.units)
        for s in sites
        if s.op in LEAKY
    )


def match_leaky(gone: Iterable[LostSite], leaky: Iterable[Leaky]) -> Mapping[str, Leaky]:
    """Return the leaky call that each site has become, by its former id.

    The call of a module keeps its id. A functional call has the function in its id, and torch's encoder layers store a
    ReLU as a function but any other activation as a module: such calls are matched by the module whose forward makes
    them and by the layer before them, in the order in which they ran. The number of units must always agree.
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
    """Whether both are functional calls in the same module, after the same layer."""
    place, colon, _ = site.id.rpartition(":")
    there, also, _ = leaky.id.rpartition(":")
    return bool(colon and also) and place == there and (None in (site.after, leaky.after) or site.after == leaky.after)


def _same_layer(site: LostSite, leaky: Leaky) -> bool:
    """Whether a functional call and the call of a submodule follow the same layer."""
    inside = site.module is not None and leaky.module.startswith(f"{site.module}." if site.module else "")
    return ":" in site.id and inside and site.after is not None and site.after == leaky.after
