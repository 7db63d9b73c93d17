"""One scale for the differences of all arms, and each interval drawn on it as a whisker of characters."""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.render.glyphs import Glyphs
from deadrelu.render.trial.figures import known
from deadrelu.report.trial import Difference, Trial

_ALONE, _ROOM = 8, 4
"""An arm that is so many times as far from zero as the next one leaves the scale, which ends at `_ROOM` times that."""

_MARGIN = 0.04
"""The part of the scale that stays free at either end."""


@dataclass(frozen=True, kw_only=True)
class WhiskerScale:
    """A range of differences, from `low` (not above 0) to `high` (not below 0)."""

    low: float
    high: float

    def place(self, difference: float) -> float:
        """Return where a difference is on the scale, in 0..1; one beyond it is at its end."""
        return min(max((difference - self.low) / (self.high - self.low), 0.0), 1.0)

    def holds(self, difference: float) -> bool:
        """Whether a difference is on the scale at all."""
        return self.low <= difference <= self.high


def whisker_scale(trial: Trial) -> WhiskerScale:
    """Return the scale that holds zero and the interval of every arm, but not of one that is far beyond all others."""
    spans = [
        known((arm.difference.estimate, arm.difference.low, arm.difference.high))
        for arm in trial.arms
        if arm.difference is not None
    ]
    reach = sorted((max(map(abs, span)) for span in spans if span), reverse=True)
    limit = reach[0] if reach else 0.0
    if len(reach) > 1 and 0 < _ALONE * reach[1] < reach[0]:
        limit = _ROOM * reach[1]
    ends = [min(max(value, -limit), limit) for span in spans for value in span]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = (high - low) * _MARGIN or 1.0
    return WhiskerScale(low=low - margin, high=high + margin)


def whisker(difference: Difference | None, scale: WhiskerScale, width: int, glyphs: Glyphs) -> tuple[str, int]:
    """Return the whisker in `width` characters, and the column of zero; without a difference, only the zero line."""
    first, last, line, point, beyond_low, beyond_high, zero_line, crossing, _ = tuple(glyphs.whisker)

    def column(value: float) -> int:
        return round(scale.place(value) * (width - 1))

    zero = column(0.0)
    cells = [" "] * width
    cells[zero] = zero_line
    if difference is None:
        return "".join(cells), zero
    at = column(difference.estimate)
    if difference.low is not None and difference.high is not None:
        low, high = column(difference.low), column(difference.high)
        # Rounded to whole characters, an interval must not seem to touch a zero that it leaves out.
        low = low + 1 if low == zero < at and difference.low > 0 else low
        high = high - 1 if high == zero > at and difference.high < 0 else high
        for place in range(low, high + 1):
            cells[place] = crossing if place == zero else line
        cells[low] = first if scale.holds(difference.low) else beyond_low
        cells[high] = last if scale.holds(difference.high) else beyond_high
    cells[at] = point if scale.holds(difference.estimate) else beyond_low if difference.estimate < 0 else beyond_high
    return "".join(cells), zero


def whisker_axis(scale: WhiskerScale, width: int, labels: tuple[str, str]) -> str:
    """Return the line below the whiskers: what its ends stand for, and zero where it fits between them."""
    low, high = labels
    zero = round(scale.place(0.0) * (width - 1))
    room = width - len(low) - len(high)
    if room < 1:
        return " " * width
    text = list(low + " " * room + high)
    if len(low) < zero < width - len(high) - 1:  # with a space at either side
        text[zero] = "0"
    return "".join(text)
