"""Cuts a program as far as its outputs stay the same, and puts back what moves them."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors, tensor_leaves
from deadrelu.programs.rng import seed_all
from deadrelu.remedy.compare import same_bits
from deadrelu.remedy.prune.couplings import Group
from deadrelu.remedy.prune.graphs import Prunable, copied, in_float64, plain_passes
from deadrelu.remedy.prune.parameters import TensorDim
from deadrelu.remedy.prune.surgery import Surgery

_EXACT = 1e-9
"""The outputs of two models in float64 that differ by less, relative to the largest, differ by rounding alone."""


@dataclass
class Cutting:
    """A program from which groups are cut, whose outputs on `batches` are to stay the same to the last bit.

    With `rounding` they may move by so much, relative to the largest of a batch, where that is rounding alone: checked
    in float64.
    """

    program: Prunable
    batches: Sequence[Batch]
    rounding: float = 0.0

    def __post_init__(self) -> None:
        """Keep a copy of the program."""
        self.exactly = 0.0
        """How far outputs moved in float64, relative to the largest, where float32 rounded differently."""
        self.moved = 0.0
        """How far the outputs of the program as it is now are from the old ones."""
        self.original = copied(self.program)
        """The program as it was."""
        self._surgery = Surgery(self.program.module, in_place=not isinstance(self.program, EagerProgram))
        self._before: list[list[Tensor]] = []

    def length(self, place: TensorDim) -> int:
        """How many entries are left along a dimension of a parameter."""
        return self._surgery.length(place)

    def cut(self, groups: Sequence[Group]) -> str:
        """Cut these groups; returns why the outputs do not allow it, and then nothing was cut. Empty if they do."""
        self._before = self._before or list(self._outputs())
        self._surgery.cut(groups)
        why = self._difference()
        if why:
            self._surgery.restore(groups)
        return why

    def _outputs(self) -> Generator[list[Tensor], None, None]:
        """The outputs for each batch, by the kernels that torch takes by itself."""
        fast = torch.backends.mha.get_fastpath_enabled()
        with plain_passes(self.program) as run:
            torch.backends.mha.set_fastpath_enabled(fast)  # a scan turns it off
            for index, batch in enumerate(self.batches):
                seed_all(index)  # a model that draws random numbers in eval mode must draw the same ones twice
                yield [tensor.detach().clone() for tensor in tensor_leaves(run(copy.deepcopy(batch)))]

    def _difference(self) -> str:
        """Why the outputs are not what they were, by the first batch that differs; empty if they are."""
        furthest = 0.0
        with closing(self._outputs()) as after:
            for index, old in enumerate(self._before):
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
                largest = max(float(a.double().abs().max()) for a, _ in pairs if a.numel())
                furthest = max(furthest, moved)
                if why := self._why_moved(index):
                    return f"{why}: the output would move by {moved:.2g}"
                if moved > self.rounding * largest:
                    option = "" if self.rounding else " (--rounding)"
                    return f"its smaller layers round differently: the output would move by {moved:.2g}{option}"
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
