"""What is counted of pre-activations: where each unit fires, its range, what it puts out, what is non-finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.measure.firing import Firing
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features

BLOCK = 1 << 18
"""Elements of a block on the CPU: what is made of it, one megabyte, stays in the cache."""

EXACT = 1 << 24
"""Below this, float32 holds every whole number."""


@dataclass
class Figures:
    """Counters of one site, one entry a unit. The first five are int64, the others float64.

    `fires` and `row_fires` count positions and rows, `stationary` the positions at the one point where the derivative
    is exactly zero, `highs` those in a flat part that reaches +∞. `maxima`, `minima` and `output_sums` are of finite
    values alone.
    """

    fires: Tensor
    row_fires: Tensor
    nonfinite: Tensor
    stationary: Tensor
    highs: Tensor
    maxima: Tensor
    minima: Tensor
    output_sums: Tensor

    @classmethod
    def zeros(cls, units: int, device: torch.device) -> Figures:
        """Nothing counted: no unit fired, the maxima are −inf and the minima +inf."""
        fires, row_fires, nonfinite, stationary, highs = torch.zeros(5, units, dtype=torch.int64, device=device)
        maxima = torch.full((units,), -math.inf, dtype=torch.float64, device=device)
        sums = torch.zeros_like(maxima)
        return cls(fires, row_fires, nonfinite, stationary, highs, maxima, -maxima, sums)

    def clear(self) -> None:
        """Start again from nothing, in place."""
        for counts in (self.fires, self.row_fires, self.nonfinite, self.stationary, self.highs, self.output_sums):
            counts.zero_()
        self.maxima.fill_(-math.inf)
        self.minima.fill_(math.inf)

    def merge(self, other: Figures) -> None:
        """Add the counts of other pre-activations of the same site."""
        self.fires += other.fires
        self.row_fires += other.row_fires
        self.nonfinite += other.nonfinite
        self.stationary += other.stationary
        self.highs += other.highs
        torch.maximum(self.maxima, other.maxima, out=self.maxima)
        torch.minimum(self.minima, other.minima, out=self.minima)
        self.output_sums += other.output_sums


class TorchCounter:
    """Counts with torch's operations: any type, layout, device and activation."""

    def __init__(self, x: Tensor, firing: Firing, features: Features, *, is_full: bool) -> None:
        """Nothing counted. `x` `(rows, units, positions)` is a pre-activation as `by_unit` shows it.

        Maxima, minima and sums are counted if `is_full`.
        """
        self.rows, units, self.positions = x.shape
        self._firing, self._features, self._is_full = firing, features, is_full
        self._region = firing.region
        self._dtype = torch.promote_types(x.dtype, torch.float32)
        self._figures = Figures.zeros(units, x.device)
        row = units * self.positions
        self._block = max(1, BLOCK // row) if x.is_cpu and row else max(1, self.rows)
        self.lines = 0

    def update(self, z: Tensor) -> None:
        """Count one pre-activation. On a GPU nothing waits for the device."""
        if z.numel():
            for block in by_unit(z, self._features).split(self._block):
                self._count_fires(block)
                self._count_values(block)

    @property
    def fires(self) -> Tensor:
        """At how many positions each unit fired so far."""
        return self._figures.fires

    def compute(self) -> Figures:
        """The figures of all that was counted."""
        return self._figures

    def clear(self) -> None:
        """Start again from nothing."""
        self._figures.clear()

    def _count_fires(self, x: Tensor) -> None:
        """Add where each unit fires: NaN does at no position. As floats, which torch adds up faster than booleans."""
        hits = torch.empty(x.shape, dtype=self._dtype, device=x.device)
        if self._region.outside:
            torch.logical_or(x > self._region.high, x < self._region.low, out=hits)
        else:
            torch.gt(x, self._firing.low, out=hits)
            if not math.isinf(self._region.high):
                hits.mul_(torch.lt(x, self._region.high))
        per_row = hits.sum(2, dtype=self._dtype if x.numel() < EXACT else torch.float64)
        self._figures.fires += per_row.sum(0).long()
        self._figures.row_fires += (per_row > 0).sum(0)
        if self._firing.zero is not None:
            self._figures.stationary += (x == self._firing.zero).sum((0, 2))
        if self._firing.has_high:
            self._figures.highs += (x >= self._region.high).sum((0, 2))

    def _count_values(self, x: Tensor) -> None:
        """Add maxima and sizes of the outputs, of finite values alone, and how many values are non-finite."""
        outputs = self._firing.outputs(x).abs() if self._is_full else x
        sums = outputs.sum((0, 2), dtype=self._dtype)
        # A sum shows whether anything is non-finite. It may be so for other reasons, too, and on a GPU it would wait.
        if x.is_cpu and math.isfinite((x.sum(dtype=self._dtype) + sums.sum()).item()):
            maxima = minima = x
        else:
            finite = x.isfinite()
            self._figures.nonfinite += finite.logical_not().sum((0, 2))
            maxima, minima = x.where(finite, -math.inf), x.where(finite, math.inf)
            sums = outputs.where(finite, 0.0).sum((0, 2), dtype=torch.float64)
        if self._is_full:
            torch.maximum(self._figures.maxima, maxima.amax((0, 2)).double(), out=self._figures.maxima)
            torch.minimum(self._figures.minima, minima.amin((0, 2)).double(), out=self._figures.minima)
            self._figures.output_sums += sums
