"""The characters that reports are drawn with, and their ASCII replacements."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TENTHS = 10
"""The bars in a histogram of firing rates."""

_TYPOGRAPHY = str.maketrans(
    {"–": "-", "−": "-", "—": "-", "…": "...", "→": "->", "·": "-", "×": "x", "±": "+/-", "’": "'"}
)


def tenth(rate: float) -> int:
    """Return the tenth of 0..1 that a firing rate falls in, from 0 to 9; 1.0 belongs to the last."""
    return min(int(rate * TENTHS), TENTHS - 1)


def tenths(rates: Iterable[float]) -> list[int]:
    """Count the firing rates in each tenth."""
    numbers = [0] * TENTHS
    for rate in rates:
        numbers[tenth(rate)] += 1
    return numbers


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """One set of characters. `levels` and `cells` go from low to high; `fill`, `half` and `track` make a bar.

    `whisker` has what an interval is drawn with: its ends, line, estimate, both arrows beyond the scale; then the zero
    line, where the interval crosses it, and the arm at zero.
    """

    plain: bool
    error: str
    warning: str
    note: str
    healthy: str
    skipped: str
    fill: str
    half: str
    track: str
    levels: str
    cells: str
    dead: str
    saturated: str
    rare: str
    rule: str
    ellipsis: str
    dash: str
    dot: str
    arrow: str
    whisker: str

    def text(self, raw: str) -> str:
        """Return text that is safe to print: one line, without control or direction codes, and ASCII if `plain`.

        Names come from the model file. Unescaped, they could move the cursor or recolour the verdict.
        """
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in raw)
        if self.plain:
            shown = shown.translate(_TYPOGRAPHY).encode("ascii", "backslashreplace").decode()
        return shown

    def sentence(self, raw: str) -> str:
        """Return prose that is safe to print; line breaks become spaces."""
        return self.text(" ".join(raw.split()))

    def bar(self, fraction: float, width: int) -> tuple[str, str]:
        """Return the filled and the empty part of a bar. Above 0 it is never empty, below 1 never full."""
        halves = round(fraction * width * 2)
        halves = min(max(halves, 1), width * 2 - 1) if 0 < fraction < 1 else halves
        filled = self.fill * (halves // 2) + self.half * (halves % 2)
        return filled, self.track * (width - len(filled))

    def histogram(self, rates: Iterable[float]) -> str:
        """Draw the number of units in each tenth of the firing rate; only an empty tenth has the lowest level."""
        numbers = tenths(rates)
        top = max(numbers) or 1
        return "".join(self.level(number / top) for number in numbers)

    def level(self, share: float) -> str:
        """Return the sign for a share in 0..1 of the highest; only 0 has the lowest."""
        return self.levels[math.ceil(share * (len(self.levels) - 1) - 1e-9)] if share else self.levels[0]

    def number(self, value: float | None) -> str:
        """Return a number with three digits and a real minus sign; a dash for None."""
        return self.dash if value is None else self.text(f"{value:.3g}".replace("-", "−"))


BLOCKS = Glyphs(
    plain=False,
    error="✗",
    warning="!",
    note="·",
    healthy="✓",
    skipped="?",
    fill="━",
    half="╸",
    track="─",
    levels="▁▂▃▄▅▆▇█",
    cells="▁▂▃▄▅▆▇█",
    dead="✗",
    saturated="≈",
    rare="·",
    rule="─",
    ellipsis="…",
    dash="—",
    dot=" · ",
    arrow="→",
    whisker="├┤─●◂▸┊┼○",
)

ASCII = Glyphs(
    plain=True,
    error="X",
    warning="!",
    note="-",
    healthy=" ",
    skipped="?",
    fill="#",
    half="=",
    track=".",
    levels="_.:-=+*#",
    cells="0123456789",
    dead="X",
    saturated="~",
    rare=".",
    rule="-",
    ellipsis="...",
    dash="-",
    dot=" | ",
    arrow="->",
    whisker="[]-*<>:+o",
)
