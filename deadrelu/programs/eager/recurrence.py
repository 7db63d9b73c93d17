"""Groups the relu calls of an nn.RNN: one per step and layer, and all of one layer and direction are one site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Recurrence:
    """A running nn.RNN over so many `steps`; `sites_before` of its sites were called earlier in this pass."""

    steps: int
    sites_before: int
    calls: int = 0

    def next(self) -> int:
        """The number of the site, from 1 in each forward pass, to which the next call belongs."""
        self.calls += 1
        return self.sites_before + -(-self.calls // self.steps)


def steps_of(module: nn.Module, args: tuple[Any, ...]) -> int:
    """The number of steps in the input of a recurrent module; 1 for a cell."""
    x = args[0] if args else None
    steps = 1
    if isinstance(x, nn.utils.rnn.PackedSequence):
        steps = len(x.batch_sizes)
    elif isinstance(x, Tensor) and isinstance(module, nn.RNN):
        steps = x.shape[1 if module.batch_first and x.ndim == 3 else 0]
    return max(steps, 1)
