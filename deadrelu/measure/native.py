"""Counting in one loop of C, for what most networks do on a CPU: clamps, ReLU among them, of float32.

The extension is optional. Where it was not built, or `DEADRELU_NATIVE=0` turns it off, torch's operations do the same.
"""

from __future__ import annotations

import math
import os
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deadrelu.measure.figures import Figures, Rule
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features

try:
    from deadrelu.measure import _count
except ImportError:  # not built, or this torch brings no OpenMP that it could use
    IS_THERE = False
else:
    IS_THERE = os.environ.get("DEADRELU_NATIVE") != "0"

CLAMPS = frozenset({"relu", "relu6", "hardtanh"})

GRAIN = 1 << 15
"""Elements for which it does not pay to wake the other threads."""

ROOM = 1 << 15
"""Figures of a kind that a site may keep, for all threads together. Where that is too little, threads share units."""


class Native:
    """Counts what lies densely in memory, or a copy that does. All figures are taken, whatever the rule asks for."""

    is_full = False

    @staticmethod
    def counts(z: Tensor, rule: Rule) -> bool:
        """Whether it counts pre-activations like `z`: of its class, type, shape and strides."""
        plain = type(z) is Tensor and z.dtype is torch.float32 and z.is_cpu and not z.is_neg()
        return IS_THERE and plain and z.numel() > 0 and rule.op in CLAMPS

    def __init__(self, z: Tensor, x: Tensor, features: Features, rule: Rule) -> None:
        """Plan for pre-activations like `z`, which `by_unit` shows as `x` `(rows, units, positions)`."""
        self.rows, units, self.positions = x.shape
        self._features, self._full = features, rule.stats == "full"
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
        self._whole = torch.zeros(3, *places, dtype=torch.int64)
        self._sums = torch.zeros(places, dtype=torch.float64)
        self._maxima = torch.full(places, -math.inf, dtype=torch.float64)
        self._taken = 0
        low, high = rule.region.low, rule.region.high
        last = high if math.isinf(high) else float(np.nextafter(np.float32(high), np.float32(-math.inf)))
        fires, row_fires, nonfinite = (counters.data_ptr() for counters in self._whole)
        self._count = partial(
            _count.count,
            *(rows, units, positions, across, low, last, low, high, by_row, parts),
            *(fires, row_fires, nonfinite, self._maxima.data_ptr(), self._sums.data_ptr()),
        )

    def take(self, z: Tensor) -> None:
        """Count one pre-activation."""
        self._taken += 1
        if not self._in_place:
            z = by_unit(z, self._features).contiguous()
        self._count(z.data_ptr())

    def fired(self) -> Tensor:
        """Which units have fired since `taken` was last called: quicker to tell than how often."""
        return self._whole[0].any(0)

    def taken(self) -> Figures | None:
        """The figures of what was counted since this was last called; None where that is nothing."""
        if not self._taken:
            return None
        self._taken = 0
        fires, row_fires, nonfinite = self._whole.sum(1)
        seen = Figures(fires, fires if self.positions == 1 else row_fires, nonfinite=nonfinite)
        if self._full:
            seen.maxima, seen.output_sums = self._maxima.amax(0), self._sums.sum(0)
        self._whole.zero_()
        self._sums.zero_()
        self._maxima.fill_(-math.inf)
        return seen
