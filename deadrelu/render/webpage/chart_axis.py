"""The axis of a chart: its range, its ticks, and where a value is on it; linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_ABOVE = 1e4
"""A logarithmic axis ends at so many times the median: one run that explodes must not flatten all others."""

_DECADES = 5
"""The most powers of ten that have a tick each."""

_SMALLEST = 1e-3
"""Differences of less than a millionth of this, or of the values, are no more than rounding."""


@dataclass(frozen=True, kw_only=True)
class ChartAxis:
    """A range with its ticks, in order."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value is on the axis, in 0..1; one beyond it is at its end."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log10(max(each, self.low)) for each in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear_axis(low: float, high: float, *, most: int = 5, exact: bool = False) -> ChartAxis:
    """Return an axis with at most about `most` round ticks, widened to them unless it is `exact`."""
    size = max(abs(low), abs(high), _SMALLEST)
    if high - low < size * 1e-6:
        margin = size * 0.1 if size > _SMALLEST else 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    if exact:
        return ChartAxis(low=low, high=high, ticks=tuple(tick for tick in ticks if low <= tick <= high))
    return ChartAxis(low=ticks[0], high=ticks[-1], ticks=ticks)


def log_axis(values: Sequence[float]) -> ChartAxis:
    """Return a logarithmic axis for values of which at least one is above 0."""
    above = [value for value in values if value > 0]
    top = min(max(above), median(above) * _ABOVE)
    first, last = math.floor(math.log10(min(above)) + 1e-9), math.ceil(math.log10(top) - 1e-9)
    last = max(last, first + 1)
    every = max(1, math.ceil((last - first) / _DECADES))
    steps = (1, 2, 5) if last - first == 1 else (1,)
    ticks = [10.0**power * step for power in range(first, last + 1, every) for step in steps]
    return ChartAxis(
        low=10.0**first, high=10.0**last, ticks=tuple(t for t in ticks if t <= 10.0**last * 1.001), log=True
    )


def _round_step(step: float) -> float:
    """The next number that is 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step * 0.999)
