"""What is counted of pre-activations: where each unit fires, how high it gets, what it puts out, what is non-finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.activations import Parameters
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import CallSite, Features

BLOCK = 1 << 18
"""Elements of a block on the CPU: what is made of it, one megabyte, stays in the cache."""

EXACT = 1 << 24
"""Below this, float32 holds every whole number."""


@dataclass
class Figures:
    """Counters of one site, one entry a unit. The first three are int64, the others float64.

    `fires` and `row_fires` count positions and rows; `maxima` and `output_sums` are of finite values alone.
    """

    fires: Tensor
    row_fires: Tensor
    nonfinite: Tensor
    maxima: Tensor
    output_sums: Tensor

    @classmethod
    def zeros(cls, units: int, device: torch.device) -> Figures:
        """Nothing counted: no unit fired, and the maxima are −inf."""
        fires, row_fires, nonfinite = torch.zeros(3, units, dtype=torch.int64, device=device)
        maxima = torch.full((units,), -math.inf, dtype=torch.float64, device=device)
        return cls(fires, row_fires, nonfinite, maxima, torch.zeros_like(maxima))

    def merge(self, other: Figures) -> None:
        """Add the counts of other pre-activations of the same site."""
        self.fires += other.fires
        self.row_fires += other.row_fires
        self.nonfinite += other.nonfinite
        torch.maximum(self.maxima, other.maxima, out=self.maxima)
        self.output_sums += other.output_sums


class TorchCounter:
    """Counts with torch's operations: any type, layout, device and activation."""

    def __init__(self, x: Tensor, site: CallSite, features: Features, *, is_full: bool) -> None:
        """Nothing counted. `x` `(rows, units, positions)` is a pre-activation as `by_unit` shows it.

        Maxima and sums are counted if `is_full`.
        """
        self.rows, units, self.positions = x.shape
        self._site, self._features, self._is_full = site, features, is_full
        self._region = site.region
        self._dtype = torch.promote_types(x.dtype, torch.float32)
        self._figures = Figures.zeros(units, x.device)
        row = units * self.positions
        self._block = max(1, BLOCK // row) if x.is_cpu and row else max(1, self.rows)

    def update(self, z: Tensor) -> None:
        """Count one pre-activation. On a GPU nothing waits for the device."""
        if z.numel():
            for block in by_unit(z, self._features).split(self._block):
                self._count_fires(block)
                self._count_values(block)

    def compute(self) -> Figures:
        """The figures of all that was counted."""
        return self._figures

    def _count_fires(self, x: Tensor) -> None:
        """Add where each unit fires: NaN does at no position. As floats, which torch adds up faster than booleans."""
        hits = torch.empty(x.shape, dtype=self._dtype, device=x.device)
        if self._region.outside:
            torch.logical_or(x > self._region.high, x < self._region.low, out=hits)
        else:
            torch.gt(x, self._region.low, out=hits)
            if not math.isinf(self._region.high):
                hits.mul_(torch.lt(x, self._region.high))
        per_row = hits.sum(2, dtype=self._dtype if x.numel() < EXACT else torch.float64)
        self._figures.fires += per_row.sum(0).long()
        self._figures.row_fires += (per_row > 0).sum(0)

    def _count_values(self, x: Tensor) -> None:
        """Add maxima and sizes of the outputs, of finite values alone, and how many values are non-finite."""
        outputs = activate(x, self._site.op, self._site.parameters).abs() if self._is_full else x
        sums = outputs.sum((0, 2), dtype=self._dtype)
        # A sum shows whether anything is non-finite. It may be so for other reasons, too, and on a GPU it would wait.
        if x.is_cpu and math.isfinite((x.sum(dtype=self._dtype) + sums.sum()).item()):
            maxima = x
        else:
            finite = x.isfinite()
            self._figures.nonfinite += finite.logical_not().sum((0, 2))
            maxima = x.where(finite, -math.inf)
            sums = outputs.where(finite, 0.0).sum((0, 2), dtype=torch.float64)
        if self._is_full:
            torch.maximum(self._figures.maxima, maxima.amax((0, 2)).double(), out=self._figures.maxima)
            self._figures.output_sums += sums


def activate(z: Tensor, op: str, parameters: Parameters) -> Tensor:
    """The output of an activation, a new tensor."""
    output: Tensor = getattr(F, op)(z, *parameters)
    return output
