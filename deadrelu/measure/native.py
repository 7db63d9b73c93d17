"""Counting in one loop of C, for what most networks do on a CPU: clamps, ReLU among them, of float32.

The extension is optional. Without it `TorchCounter` does the same, slower.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deadrelu.flatness import Region
from deadrelu.measure.build import has_native_counter
from deadrelu.measure.figures import Figures
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features

try:
    from deadrelu.measure import _count
except ImportError:  # not built, or this torch brings no OpenMP that it could use
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = has_native_counter()

CLAMPED = frozenset({"relu", "relu6", "hardtanh"})
"""The activations that clamp to the region in which they fire."""

GRAIN = 1 << 15
"""Below so many elements it does not pay to wake the other threads."""

ROOM = 1 << 15
"""So many figures of a kind may a site keep for all threads together. Beyond, threads share units."""


class NativeCounter:
    """Counts what lies densely in memory, or a dense copy. Extremes and sums are always counted: they cost nothing."""

    @staticmethod
    def can_count(z: Tensor, op: str) -> bool:
        """Whether it counts pre-activations like `z`: of its class, type, shape and strides."""
        is_plain = type(z) is Tensor and z.dtype is torch.float32 and z.is_cpu and not z.is_neg()
        return IS_AVAILABLE and is_plain and z.numel() > 0 and op in CLAMPED

    def __init__(self, z: Tensor, x: Tensor, region: Region, features: Features) -> None:
        """Plan for pre-activations like `z`, which `by_unit` shows as `x` `(rows, units, positions)`."""
        self.rows, units, self.positions = x.shape
        self._features = features
        across = not x.is_contiguous() and x.transpose(1, 2).is_contiguous()
        self._in_place = x.data_ptr() == z.data_ptr() and (across or x.is_contiguous())
        across = across and self._in_place
        # With one position a unit, each row is a line of one large row: it fires where the unit does.
        rows, positions, across = (1, self.rows, True) if self.positions == 1 else (self.rows, self.positions, across)
        threads = torch.get_num_threads() if x.numel() >= GRAIN else 1
        # By rows, as the operations before and after divide a map: each processor finds its half in its own cache.
        by_row = not across and threads <= rows and threads * units <= ROOM
        parts = threads if by_row else min(threads, units)
        places = (threads if by_row else 1, units)
        self._counts = torch.zeros(3, *places, dtype=torch.int64)
        self._maxima = torch.full(places, -math.inf, dtype=torch.float64)
        self._minima = torch.full(places, math.inf, dtype=torch.float64)
        self._sums = torch.zeros(places, dtype=torch.float64)
        low, high = region.low, region.high
        self.lines = self.rows if self._in_place and self.positions == 1 else 0
        last = high if math.isinf(high) else float(np.nextafter(np.float32(high), np.float32(-math.inf)))
        fires, row_fires, nonfinite = (counts.data_ptr() for counts in self._counts)
        self._count = partial(
            _count.count,
            *(rows, units, positions, across, low, last, low, high, by_row, parts),
            *(fires, row_fires, nonfinite, self._maxima.data_ptr(), self._minima.data_ptr()),
            self._sums.data_ptr(),
        )

    def update(self, z: Tensor) -> None:
        """Count one pre-activation."""
        if not self._in_place:
            z = by_unit(z, self._features).contiguous()
        self._count(z.data_ptr())

    @property
    def fires(self) -> Tensor:
        """At how many positions each unit fired so far."""
        return self._counts[0].sum(0)

    def compute(self) -> Figures:
        """The figures of all that was counted."""
        fires, row_fires, nonfinite = self._counts.sum(1)
        if self.positions == 1:
            row_fires = fires
        nothing = torch.zeros_like(fires)
        extremes = self._maxima.amax(0), self._minima.amin(0)
        return Figures(fires, row_fires, nonfinite, nothing, nothing, *extremes, self._sums.sum(0))

    def clear(self) -> None:
        """Start again from nothing."""
        self._counts.zero_()
        self._maxima.fill_(-math.inf)
        self._minima.fill_(math.inf)
        self._sums.zero_()


class NativeExtremes:
    """Keeps the largest values of some units, or the smallest, where each row lies densely with one of each unit."""

    def __init__(self, kept: Tensor, units: int, most: int, *, smallest: bool) -> None:
        """Nothing is known of the units `kept` `(k,)` of so many; no more than so many extremes are kept of each."""
        self.rows = 0
        self._kept, self._most, self._sign = kept, most, -1 if smallest else 1
        self._heaps = torch.full((len(kept), most), -math.inf)
        self._least = torch.full((len(kept),), -math.inf)
        self._sums = torch.zeros(len(kept), dtype=torch.float64)
        places = kept.data_ptr(), self._heaps.data_ptr(), self._least.data_ptr(), self._sums.data_ptr()
        self._keep = partial(_count.keep, len(kept), most, smallest, *places, units)

    def add(self, first: int, rows: int) -> None:
        """Look at so many rows from this address on."""
        self._keep(first, rows)
        self.rows += rows

    @property
    def values(self) -> Tensor:
        """The extremes `(k, …)`, in no order."""
        count = min(self.rows, self._most)
        return self._sign * self._heaps.topk(count, dim=1, sorted=False).values

    @property
    def sums(self) -> Tensor:
        """The sums of all values `(k,)`."""
        return self._sign * self._sums
