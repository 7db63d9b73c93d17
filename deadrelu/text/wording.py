"""Percentages, counted nouns, lists and runs of unit numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence


def percent(fraction: float) -> str:
    """Return a fraction in 0..1 as a percentage of two significant digits.

    A fraction above 0 is never "0%", and one below 1 is never "100%".
    """
    value = fraction * 100
    if value <= 0 or value >= 100:
        return "0%" if value <= 0 else "100%"
    decimals = max(0, 1 - math.floor(math.log10(min(value, 100 - value))))
    text = f"{value:.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def exact_percent(fraction: float) -> str:
    """Return a limit in 0..1 as a percentage, with the digits that the user gave."""
    return f"{fraction * 100:.10g}%"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 unit`, `1,797 samples`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def number(value: float) -> str:
    """Return a number with three digits, or in whole thousands, and a real minus sign."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def printable(text: str) -> str:
    r"""Escape what would control a terminal, such as `\x1b`: a name may come from a hostile file."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names with commas between them; after `most` the rest is only counted."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def ranges(units: Sequence[int], limit: int = 8) -> str:
    """Return ascending unit numbers with runs joined, `0–3, 9`; after `limit` runs the rest is only counted."""
    runs = list(_runs(units))
    text = ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in runs[:limit])
    left = sum(last - first + 1 for first, last in runs[limit:])
    return f"{text} and {left:,} more" if left else text


def _runs(units: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers."""
    start = 0
    for index in range(1, len(units) + 1):
        if index == len(units) or units[index] != units[index - 1] + 1:
            yield units[start], units[index - 1]
            start = index
