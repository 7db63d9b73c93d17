"""Removes dead units from a live module, site by site, as far as the outputs stay the same."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadrelu.certify.box import Sampled
from deadrelu.certify.record import record
from deadrelu.certify.targets import Target, strangers, targets_of
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors, tensor_leaves
from deadrelu.programs.rng import seed_all
from deadrelu.remedy.compare import same_bits
from deadrelu.remedy.prune.couplings import CoupledError, Couplings, Slice
from deadrelu.remedy.prune.surgery import Surgery
from deadrelu.report import SiteStats
from deadrelu.report.pruned import Kept, SitePruned

_LAST = "it is the last unit of a wholly dead site, and a layer cannot have none"
_CONSTANT = "its output is a constant other than 0"
_SPARE = "with it the smaller layer keeps a size at which its kernel sums in the same order (--rounding)"
_BLOCKS = (1, 4, 16, 32)
"""Sizes in whose multiples a layer is cut, smallest first: at 1 all of its units go."""

_EXACT = 1e-9
"""The outputs of two models in float64 that differ by less, relative to the largest, differ by rounding alone."""


@dataclass
class _Site:
    """A site with dead units: those that may go, and the reasons of those that stay."""

    stats: SiteStats
    units: list[int]
    kept: dict[int, str] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()

    def keep_all(self, why: str) -> None:
        """None of the units goes."""
        self.kept |= dict.fromkeys(self.units, why)
        self.units = []

    def result(self) -> SitePruned:
        """As it is reported."""
        kept = tuple(Kept(unit=unit, reason=self.kept[unit]) for unit in sorted(self.kept))
        return SitePruned(
            id=self.stats.site.id, units=self.stats.site.units, removed_units=tuple(sorted(self.units)), kept=kept
        )


@dataclass
class Removal:
    """The removal of dead units from a program, whose outputs on `batches` are to stay the same to the last bit.

    With `rounding` they may differ by what the smaller kernels round differently: checked in float64.
    """

    program: EagerProgram
    batches: Sequence[Batch]
    rounding: bool = False

    def __post_init__(self) -> None:
        """Keep a copy of the module as it is."""
        self.exactly = 0.0
        """How far outputs moved in float64, relative to the largest, where rounding was allowed."""
        self._original = copy.deepcopy(self.program.module)

    def run(
        self, sites: Iterable[SiteStats], inputs: Sampled, allowed: Mapping[str, Iterable[int]] | None = None
    ) -> tuple[SitePruned, ...]:
        """Remove the dead units of these sites, in place; with `allowed`, by site, these alone."""
        dead = [stats for stats in sites if stats.dead]
        found = [_site(stats, None if allowed is None else set(allowed.get(stats.site.id, ()))) for stats in dead]
        self._couple(found, inputs)
        before = list(self._outputs())
        surgery = Surgery(self.program.module)
        for site in found:
            if site.units:
                self._cut(surgery, site, before)
        return tuple(site.result() for site in found)

    def _cut(self, surgery: Surgery, site: _Site, before: Sequence[Sequence[Tensor]]) -> None:
        """Remove as many units of a site as leave the outputs the same; the others stay, each with its reason.

        A layer whose size is a multiple of what its kernel works on at once sums in the order of the larger one.
        """
        units, why = site.units, ""
        for size in _BLOCKS:
            live = site.stats.site.units - len(units)
            spare = min(-live % size if live > size else size - live, len(units)) if size > 1 else 0
            going = units[: len(units) - spare]
            if not going:
                break
            surgery.cut(site.slices, going)
            found = self._difference(before)
            why = why or found
            if not found:
                site.units = going
                site.kept |= dict.fromkeys(units[len(going) :], _SPARE)
                return
            surgery.restore(site.slices, going)
        site.keep_all(why)

    def _couple(self, sites: Sequence[_Site], inputs: Sampled) -> None:
        """Find what has to be cut for each site; the units of one that cannot be cut stay, with the reason."""
        tape = record(self.program, inputs.one)
        targets, obstacles = targets_of(tape, [site.stats for site in sites])
        obstacles |= strangers(self.program, tape, targets, inputs)
        by_id: dict[str, Target] = {target.stats.site.id: target for target in targets}
        couplings = Couplings(self.program.module, tape)
        for site in sites:
            id = site.stats.site.id
            if id in obstacles or id not in by_id:
                site.keep_all(obstacles.get(id, "it is not a rectifier"))
                continue
            try:
                site.slices = couplings.of(by_id[id])
            except CoupledError as error:
                site.keep_all(str(error))

    def _outputs(self) -> Generator[list[Tensor], None, None]:
        """The outputs for each batch, by the kernels that torch takes by itself."""
        fast = torch.backends.mha.get_fastpath_enabled()
        with self.program.plainly() as run:
            torch.backends.mha.set_fastpath_enabled(fast)  # a scan turns it off
            for index, batch in enumerate(self.batches):
                seed_all(index)  # a model that draws random numbers in eval mode must draw the same ones twice
                yield [tensor.detach().clone() for tensor in tensor_leaves(run(copy.deepcopy(batch)))]

    def _difference(self, before: Sequence[Sequence[Tensor]]) -> str:
        """Why the outputs are not what they were, by the first batch that differs; empty if they are."""
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
                if all(same_bits(a, b) for a, b in pairs) or (self.rounding and self._is_rounding(index)):
                    continue
                moved = max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel())
                return f"its smaller layers round differently: the output would move by {moved:.2g} (--rounding)"
        return ""

    def _is_rounding(self, index: int) -> bool:
        """Whether in float64 the outputs of a batch are the same but for rounding."""
        batch = self.batches[index]
        given = (batch.args, dict(batch.kwargs))
        args, kwargs = map_tensors(given, lambda x: x.double() if x.is_floating_point() else x)
        found = []
        for module in (self._original, self.program.module):
            with EagerProgram(copy.deepcopy(module).double(), self.program.device).plainly() as run:
                seed_all(index)
                found.append(list(tensor_leaves(run(Batch(batch.samples, args, kwargs, axis=batch.axis)))))
        moved = [
            float((a - b).abs().max()) / max(float(a.abs().max()), 1e-30)
            for a, b in zip(*found, strict=True)
            if a.is_floating_point() and a.numel()
        ]
        self.exactly = max(self.exactly, *moved, 0.0)
        return self.exactly <= _EXACT


def _site(stats: SiteStats, allowed: set[int] | None) -> _Site:
    """Which of the dead units of a site may go, as far as the site itself tells."""
    site = _Site(stats, list(stats.dead_units))
    for unit in stats.dead_units:
        if allowed is not None and unit not in allowed:
            site.kept[unit] = "that no input of the box wakes it is not proved"
        elif stats.mean_activation and stats.mean_activation[unit] != 0:
            site.kept[unit] = _CONSTANT
    site.units = [unit for unit in stats.dead_units if unit not in site.kept]
    if len(site.units) == stats.site.units:
        site.kept[site.units.pop(0)] = _LAST
    return site
