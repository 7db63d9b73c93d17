"""Which way of counting fits a pre-activation: a loop in C; else torch's operations, block by block or at once."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from deadrelu.measure.blocks import Across, Long, Scratch, Short
from deadrelu.measure.figures import Figures, Rule, at_once
from deadrelu.measure.native import Native
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features

LONG = 64
"""From so many positions a row on, torch's sum along the row is fast; below, it is summed across the rows."""


class Counter(Protocol):
    """Counts pre-activations of one layout, each of `rows` rows with `positions` positions for every unit."""

    rows: int
    positions: int

    @property
    def is_full(self) -> bool:
        """Whether `taken` must be called before the next `take`."""

    def take(self, z: Tensor) -> None:
        """Count one pre-activation. On a GPU nothing waits for the device."""

    def taken(self) -> Figures | None:
        """The figures of what was counted since this was last called; None where that is nothing."""


def counter(z: Tensor, features: Features, rule: Rule, scratch: Scratch) -> Counter:
    """The counter for pre-activations like `z`: of its class, shape, strides, type and device."""
    x = by_unit(z, features)
    if Native.counts(z, rule):
        return Native(z, x, features, rule)
    if x.numel() == 0 or x.device.type != "cpu":
        return _Whole(x, features, rule)
    if x.is_contiguous() or not x.transpose(1, 2).is_contiguous():  # what is dense in neither way is copied
        return (Long if x.shape[2] >= LONG else Short)(z, x, features, rule, scratch)
    return Across(z, x, features, rule, scratch)


class _Whole:
    """Takes the figures of whole tensors: on a device that has no use for blocks, or where there is no element."""

    is_full = True

    def __init__(self, x: Tensor, features: Features, rule: Rule) -> None:
        """Nothing counted yet."""
        self.rows, _, self.positions = x.shape
        self._features, self._rule = features, rule
        self._seen: Figures | None = None

    def take(self, z: Tensor) -> None:
        """Count one pre-activation."""
        self._seen = at_once(by_unit(z, self._features), self._rule) if z.numel() else None

    def taken(self) -> Figures | None:
        """The figures of the last one."""
        seen, self._seen = self._seen, None
        return seen
