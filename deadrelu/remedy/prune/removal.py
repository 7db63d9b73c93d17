"""Removes dead units from a program, layer by layer, as far as the outputs stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deadrelu.certify.box import Sampled
from deadrelu.certify.record import record
from deadrelu.certify.targets import strangers, targets_of
from deadrelu.remedy.prune.couplings import Group, groups
from deadrelu.remedy.prune.cutting import Cutting
from deadrelu.remedy.prune.parameters import TensorDim
from deadrelu.report import SiteStats
from deadrelu.report.pruned import Kept, SitePruned

_LAST = "it is the last unit of a wholly dead site, and a layer cannot have none"
_SPARE = "with it the smaller layer keeps a size at which its kernel sums in the same order (--rounding)"
_BLOCKS = (1, 4, 16, 32)
"""Sizes in whose multiples a layer is cut, smallest first: at 1 all of its units go."""


@dataclass(frozen=True)
class Removal:
    """The removal of dead units from a program, as far as its outputs allow it."""

    cutting: Cutting

    def run(
        self, sites: Sequence[SiteStats], inputs: Sampled, allowed: Mapping[str, Iterable[int]] | None = None
    ) -> tuple[SitePruned, ...]:
        """Remove the dead units of these sites, in place; with `allowed`, by site, these alone."""
        kept: dict[str, dict[int, str]] = {stats.site.id: {} for stats in sites}
        dead = {stats.site.id: set(stats.dead_units) for stats in sites}
        if allowed is not None:
            for id, units in dead.items():
                unproved = units - set(allowed.get(id, ()))
                kept[id] |= dict.fromkeys(unproved, "that no input of the box wakes it is not proved")
                dead[id] = units - unproved
        found = self._groups(sites, inputs, dead, kept) if any(dead.values()) else []
        for together in _by_places(group for group in found if not group.reason):
            self._cut(together)
        removed: dict[str, set[int]] = {id: set() for id in dead}
        for group in found:
            for id, units in group.units.items():
                if group.reason:
                    kept[id] |= dict.fromkeys(units & dead[id], group.reason)
                else:
                    removed[id] |= units
                    kept[id] = {unit: why for unit, why in kept[id].items() if unit not in units}  # not proved, unread
        return tuple(
            SitePruned(
                id=stats.site.id,
                units=stats.site.units,
                dead=stats.dead,
                removed_units=tuple(sorted(removed[stats.site.id])),
                kept=tuple(Kept(unit=unit, reason=why) for unit, why in sorted(kept[stats.site.id].items())),
            )
            for stats in sites
            if stats.dead or removed[stats.site.id]
        )

    def _groups(
        self,
        sites: Sequence[SiteStats],
        inputs: Sampled,
        dead: dict[str, set[int]],
        kept: dict[str, dict[int, str]],
    ) -> list[Group]:
        """What has to be cut for the dead units; those of a site that is not followed stay, with the reason."""
        tape = record(self.cutting.program, inputs.one)
        targets, obstacles = targets_of(tape, sites)
        obstacles |= strangers(self.cutting.program, tape, targets, inputs)
        if tape.branch:
            obstacles = dict.fromkeys(dead, tape.branch)
        followed = {target.stats.site.id for target in targets} - obstacles.keys()
        for id in dead.keys() - followed:
            kept[id] |= dict.fromkeys(dead[id], obstacles.get(id, "it is not a rectifier"))
            dead[id] = set()
        targets = [target for target in targets if target.stats.site.id in followed]
        return groups(self.cutting.program.module, tape, targets, dead)

    def _cut(self, together: list[Group]) -> None:
        """Remove as many of the groups of a layer as leave the outputs the same; the others get their reason.

        A layer whose size is a multiple of what its kernel works on at once sums in the order of the larger one.
        """
        units = together[self._spared(together) :]
        live = min((self.cutting.length(place) for place in together[0].entries), default=0) - len(units)
        why = ""
        for size in _BLOCKS if units else ():
            spare = min(-live % size if live > size else size - live, len(units)) if size > 1 else 0
            going = units[: len(units) - spare]
            if not going:
                break
            found = self.cutting.cut(going)
            why = why or found
            if not found:
                for group in units[len(going) :]:
                    group.reason = _SPARE
                return
        for group in units:
            group.reason = why

    def _spared(self, together: list[Group]) -> int:
        """How many groups stay, with their reason, so that no layer is left without an entry."""
        left = {place: self.cutting.length(place) for place in together[0].entries}
        if all(sum(len(group.entries[place]) for group in together) < left[place] for place in left):
            return 0
        together[0].reason = _LAST
        return 1


def _by_places(found: Iterable[Group]) -> Iterable[list[Group]]:
    """The groups that change the same parameters in the same way, together."""
    by_places: dict[frozenset[TensorDim | str], list[Group]] = {}
    for group in found:
        by_places.setdefault(frozenset((*group.entries, *group.shifts)), []).append(group)
    return by_places.values()
