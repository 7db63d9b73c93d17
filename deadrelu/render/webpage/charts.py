"""Charts as inline SVG and bars: the histogram of firing rates, the small one in the table, shares."""

from __future__ import annotations

from collections.abc import Sequence

from deadrelu.render.glyphs import TENTHS, tenths
from deadrelu.render.rows import firing_rates, saturated
from deadrelu.render.webpage.markup import Html, el, join
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent

_APART, _STEP, _BAR, _HEIGHT = 44, 27, 24, 116
"""The histogram: the room of a bar left of the tenths, the distance and the width of the bars, the height."""


def sparkline(stats: SiteStats) -> Html:
    """Return ten bars for the table: the number of units in each tenth of the firing rate, without the dead."""
    if not stats.knows_rates:
        return el("span", "not counted", class_="quiet")
    numbers = tenths(firing_rates(stats))
    top = max(numbers) or 1
    bars = "".join(
        f'<rect class="k{n}" x="{n * 7}" y="{18 - height:g}" width="6" height="{height:g}"/>'
        for n, number in enumerate(numbers)
        if (height := max(1.5, round(18 * number / top, 1)) if number else 0.5)
    )
    return el("svg", Html(bars), class_="spark", viewBox="0 0 69 18", role="img", aria_label=_in_words(numbers))


def histogram(stats: SiteStats) -> Html:
    """Return the histogram at full size: bars for dead and saturated units on the left, a number on each bar."""
    if not stats.knows_rates:
        return el("p", "How often each unit fired was not counted.", class_="quiet")
    numbers = tenths(firing_rates(stats))
    top = max(*numbers, stats.dead, stats.saturated, 1)
    apart = (("dead", stats.dead), *([("saturated", stats.saturated)] if stats.saturated else []))
    said = [f"{count(number, 'unit')} {kind}" for kind, number in apart]
    left = _APART * len(apart) + (_STEP // 2 if stats.saturated else 0)  # its label is wider than the bar
    width = left + TENTHS * _STEP
    parts = [_bar(n * _APART, number, top, kind, said[n]) for n, (kind, number) in enumerate(apart)]
    for n, number in enumerate(numbers):
        low = 100 // TENTHS * n
        title = f"{count(number, 'unit')} with a firing rate from {low}% to {low + 100 // TENTHS}%"
        parts.append(_bar(left + n * _STEP, number, top, f"k{n}", title))
    base = _HEIGHT - 17.5
    lines = "".join(f"M{n * _APART} {base}h{_BAR}" for n in range(len(apart)))
    parts.append(Html(f'<path class="axis" d="{lines}M{left} {base}H{width - 3}"/>'))
    labels = [(n * _APART + _BAR // 2, kind) for n, (kind, _) in enumerate(apart)]
    labels += [(left + 4, "0%"), ((left + width) // 2, "50%"), (width - 4, "100%")]
    parts += [Html(f'<text x="{x}" y="{_HEIGHT - 4}">{text}</text>') for x, text in labels]
    view = f"0 0 {width + 10} {_HEIGHT}"
    kind = "histogram wide" if stats.saturated else "histogram"
    return el("svg", *parts, class_=kind, viewBox=view, role="img", aria_label="; ".join([*said, _in_words(numbers)]))


def share(fraction: float) -> Html:
    """Return a share in 0..1 as a bar and a percentage."""
    width = f"width:{max(fraction * 100, 2) if fraction else 0:.4g}%"
    return join(
        el("span", el("span", style=width), class_="bar", aria_hidden="true"), el("span", percent(fraction), class_="n")
    )


def composition(report: Report) -> Html | None:
    """Return one bar of all units: dead, saturated, rare, alive, and those that met NaN or infinity."""
    summary = report.summary
    if not summary.units:
        return None
    unknown = sum(len(stats.nonfinite_units) for stats in report.sites)
    flat = saturated(report)
    alive = summary.units - summary.dead - flat - summary.rare - unknown
    kinds = (
        ("dead", summary.dead),
        ("saturated", flat),
        ("nan", unknown),
        ("rare", summary.rare),
        ("alive", alive),
    )
    words = {"nan": "NaN or infinite"}
    bars = [el("span", class_=f"c-{kind}", style=f"flex-grow:{number}") for kind, number in kinds if number]
    keys = [
        el(
            "li",
            el("span", class_=f"key c-{kind}"),
            f"{number:,} {words.get(kind, kind)} ({percent(number / summary.units)})",
        )
        for kind, number in kinds
        if number
    ]
    return join(el("div", *bars, class_="strip", aria_hidden="true"), el("ul", *keys, class_="keys"))


def _bar(x: int, number: int, top: int, kind: str, title: str) -> Html:
    """One bar of the histogram with its number; above 0 it is always visible."""
    room = _HEIGHT - 34
    height = max(2.0, round(room * number / top, 1)) if number else 0
    y = _HEIGHT - 18 - height
    rect = f'<rect class="{kind}" x="{x}" y="{y:g}" width="{_BAR}" height="{height:g}"/>' if number else ""
    label = f'<text x="{x + _BAR // 2}" y="{y - 4:g}">{_short(number)}</text>' if number else ""
    return Html(f"<g><title>{title}</title>{rect}{label}</g>")


def _short(number: int) -> str:
    """A number that fits on a bar; the hover title has all digits."""
    thousands = number / 1000
    return f"{number}" if number < 1000 else f"{thousands:.2g}k" if thousands < 9.95 else f"{thousands:.0f}k"


def _in_words(numbers: Sequence[int]) -> str:
    """Describe a histogram in words."""
    parts = (f"{number:,} at {n * 10}–{n * 10 + 10}%" for n, number in enumerate(numbers) if number)
    return "firing rates: " + (", ".join(parts) or "none")
