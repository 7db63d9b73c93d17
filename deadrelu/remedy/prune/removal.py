"""Removes dead units from a program, layer by layer, as far as the outputs stay the same."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.certify.box import Sampled
from deadrelu.certify.record import record
from deadrelu.certify.targets import strangers, targets_of
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors, tensor_leaves
from deadrelu.programs.rng import seed_all
from deadrelu.remedy.compare import same_bits
from deadrelu.remedy.prune.couplings import Group, groups
from deadrelu.remedy.prune.graphs import Prunable, copied, in_float64, plain_passes
from deadrelu.remedy.prune.parameters import TensorDim
from deadrelu.remedy.prune.surgery import Surgery
from deadrelu.report import SiteStats
from deadrelu.report.pruned import Kept, SitePruned

_LAST = "it is the last unit of a wholly dead site, and a layer cannot have none"
_SPARE = "with it the smaller layer keeps a size at which its kernel sums in the same order (--rounding)"
_BLOCKS = (1, 4, 16, 32)
"""Sizes in whose multiples a layer is cut, smallest first: at 1 all of its units go."""

_EXACT = 1e-9
"""The outputs of two models in float64 that differ by less, relative to the largest, differ by rounding alone."""


@dataclass
class Removal:
    """The removal of dead units from a program, whose outputs on `batches` are to stay the same to the last bit.

    With `rounding` they may differ by what the smaller kernels round differently: checked in float64.
    """

    program: Prunable
    batches: Sequence[Batch]
    rounding: bool = False

    def __post_init__(self) -> None:
        """Keep a copy of the program."""
        self.exactly = 0.0
        """How far outputs moved in float64, relative to the largest, where float32 rounded differently."""
        self.moved = 0.0
        """How far the outputs of the program as it is now are from the old ones."""
        self.original = copied(self.program)
        """The program as it was."""
        self._surgery = Surgery(self.program.module, in_place=not isinstance(self.program, EagerProgram))

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
        before = list(self._outputs()) if found else []
        for together in _by_places(group for group in found if not group.reason):
            self._cut(together, before)
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
        tape = record(self.program, inputs.one)
        targets, obstacles = targets_of(tape, sites)
        obstacles |= strangers(self.program, tape, targets, inputs)
        if tape.branch:
            obstacles = dict.fromkeys(dead, tape.branch)
        followed = {target.stats.site.id for target in targets} - obstacles.keys()
        for id in dead.keys() - followed:
            kept[id] |= dict.fromkeys(dead[id], obstacles.get(id, "it is not a rectifier"))
            dead[id] = set()
        targets = [target for target in targets if target.stats.site.id in followed]
        return groups(self.program.module, tape, targets, dead)

    def _cut(self, together: list[Group], before: Sequence[Sequence[Tensor]]) -> None:
        """Remove as many of the groups of a layer as leave the outputs the same; the others get their reason.

        A layer whose size is a multiple of what its kernel works on at once sums in the order of the larger one.
        """
        units = together[self._spared(together) :]
        live = min((self._surgery.length(place) for place in together[0].entries), default=0) - len(units)
        why = ""
        for size in _BLOCKS if units else ():
            spare = min(-live % size if live > size else size - live, len(units)) if size > 1 else 0
            going = units[: len(units) - spare]
            if not going:
                break
            self._surgery.cut(going)
            found = self._difference(before)
            why = why or found
            if not found:
                for group in units[len(going) :]:
                    group.reason = _SPARE
                return
            self._surgery.restore(going)
        for group in units:
            group.reason = why

    def _spared(self, together: list[Group]) -> int:
        """How many groups stay, with their reason, so that no layer is left without an entry."""
        left = {place: self._surgery.length(place) for place in together[0].entries}
        if all(sum(len(group.entries[place]) for group in together) < left[place] for place in left):
            return 0
        together[0].reason = _LAST
        return 1

    def _outputs(self) -> Generator[list[Tensor], None, None]:
        """The outputs for each batch, by the kernels that torch takes by itself."""
        fast = torch.backends.mha.get_fastpath_enabled()
        with plain_passes(self.program) as run:
            torch.backends.mha.set_fastpath_enabled(fast)  # a scan turns it off
            for index, batch in enumerate(self.batches):
                seed_all(index)  # a model that draws random numbers in eval mode must draw the same ones twice
                yield [tensor.detach().clone() for tensor in tensor_leaves(run(copy.deepcopy(batch)))]

    def _difference(self, before: Sequence[Sequence[Tensor]]) -> str:
        """Why the outputs are not what they were, by the first batch that differs; empty if they are."""
        furthest = 0.0
        with closing(self._outputs()) as after:
            for index, old in enumerate(before):
                try:
                    new = next(after)
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # of the user's own code
                    return f"the model's own code fixes the size of its layer ({type(error).__name__})"
                if [each.shape for each in old] != [each.shape for each in new]:
                    return "the output would have another shape"
                pairs = list(zip(old, new, strict=True))
                if all(same_bits(a, b) for a, b in pairs):
                    continue
                moved = max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel())
                furthest = max(furthest, moved)
                if why := self._why_moved(index):
                    return f"{why}: the output would move by {moved:.2g}"
                if not self.rounding:
                    return f"its smaller layers round differently: the output would move by {moved:.2g} (--rounding)"
        self.moved = furthest
        return ""

    def _why_moved(self, index: int) -> str:
        """Why the outputs of a batch differ; empty if that is rounding, since in float64 they are the same."""
        batch = self.batches[index]
        given = (batch.args, dict(batch.kwargs))
        args, kwargs = map_tensors(given, lambda x: x.double() if x.is_floating_point() else x)
        found = []
        try:
            for program in (in_float64(self.original, {}), in_float64(self.program, self._surgery.exact)):
                with plain_passes(program) as run:
                    seed_all(index)
                    found.append(list(tensor_leaves(run(Batch(batch.samples, args, kwargs, axis=batch.axis)))))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the user's own code
            return (
                f"the model does not run in float64, which would show whether it is rounding ({type(error).__name__})"
            )
        moved = [
            float((a - b).abs().max()) / max(float(a.abs().max()), 1e-30)
            for a, b in zip(*found, strict=True)
            if a.is_floating_point() and a.numel()
        ]
        if max(moved, default=0.0) > _EXACT:
            return "the model's own code depends on the size of its layer"
        self.exactly = max(self.exactly, *moved, 0.0)
        return ""


def _by_places(found: Iterable[Group]) -> Iterable[list[Group]]:
    """The groups that change the same parameters in the same way, together."""
    by_places: dict[frozenset[TensorDim | str], list[Group]] = {}
    for group in found:
        by_places.setdefault(frozenset((*group.entries, *group.shifts)), []).append(group)
    return by_places.values()
