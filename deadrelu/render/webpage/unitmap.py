"""The map of a site: one cell a unit, coloured by firing rate, the dead standing out; of a huge site, one for several.

A cell is an `<i>` of a few dozen bytes with a hover title: 100,000 units must stay a page that opens.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.render.glyphs import BLOCKS, tenth
from deadrelu.render.webpage.markup import Html, el, join
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent, ranges

MOST_CELLS = 24_000
"""Cells of the whole page; above it the cells of the largest sites stand for several units each."""

_CAPS = (4096, 2048, 1024, 512, 256, 128, 64)


def most_cells(report: Report) -> int:
    """How many cells a site may have, so that the page keeps to `MOST_CELLS`; never fewer than 64."""
    units = [stats.site.units for stats in report.sites]
    return next((cap for cap in _CAPS if sum(min(n, cap) for n in units) <= MOST_CELLS), _CAPS[-1])


def unit_map(stats: SiteStats, most: int) -> Html:
    """The map in at most `most` cells, its rows with the number of their first unit.

    The whole is one picture to a screen reader: its label says what a reader of the cells would learn.
    """
    units = stats.site.units
    each = -(-units // most)
    cells = list(_single(stats) if each == 1 else _grouped(stats, each))
    columns = next((n for n in (8, 16, 32) if len(cells) <= n * n // 2), 64)
    rows = []
    for start in range(0, len(cells), columns):
        rows.append(f"<b>{start * each}</b>")
        rows += cells[start : start + columns]
    dead = f"{stats.dead:,} dead" + (f": {ranges(stats.dead_units, limit=20)}" if stats.dead else "")
    told = f"Map of {count(units, 'unit')}, {dead}"
    told += f"; {len(stats.rare_units):,} rare" if stats.knows_rates else "; how often the others fired was not counted"
    picture = el("div", Html("".join(rows)), class_="map", style=f"--n:{columns}", role="img", aria_label=told)
    if each == 1:
        return picture
    note = f"Each cell stands for {each:,} units and has their mean rate. A marked corner grows with the share of dead."
    return join(picture, el("p", note, class_="quiet"))


def legend() -> Html:
    """What the cells mean."""
    scale = Html("".join(f'<i class="k{n}"></i>' for n in range(10)))
    marks = (("x", "dead"), ("r", "rare"), ("q", "NaN or infinite"))
    items = [el("li", Html(f'<i class="{kind}"></i>'), name) for kind, name in marks]
    rate = el("li", "firing rate 0%", el("span", scale, class_="scale"), "100%")
    return el("ul", rate, *items, class_="legend", aria_label="What the cells of the maps mean")


def _single(stats: SiteStats) -> Iterator[str]:
    """A cell for each unit."""
    dead, rare, unknown = set(stats.dead_units), set(stats.rare_units), set(stats.nonfinite_units)
    for unit, (rate, top) in enumerate(zip(stats.firing_rate, stats.max_preactivation, strict=True)):
        near = BLOCKS.number(top)
        if unit in unknown:
            kind, told = "q", "NaN or infinite, " + ("fired" if rate is None else f"fired at {percent(rate)} or more")
        elif unit in dead:
            kind, told = "x", f"dead, headroom {near}"
        elif rate is None:
            kind, told = "k9", "fired"
        else:
            kind, told = ("r", f"rare, {percent(rate)}") if unit in rare else (f"k{tenth(rate)}", percent(rate))
            told += f", max {near}"
        yield f'<i class="{kind}" title="unit {unit}: {told}"></i>'


def _grouped(stats: SiteStats, each: int) -> Iterator[str]:
    """A cell for each `each` units."""
    dead, unknown = set(stats.dead_units), set(stats.nonfinite_units)
    for start in range(0, stats.site.units, each):
        units = range(start, min(start + each, stats.site.units))
        known = [rate for unit in units if (rate := stats.firing_rate[unit]) is not None]
        counted = len(known) == len(units)
        mean = sum(known) / len(units) if counted else 1.0
        silent, lost = sum(unit in dead for unit in units), sum(unit in unknown for unit in units)
        quarter = 4 * silent // len(units)
        kind = "x" if quarter == 4 else f"k{tenth(mean)}" + (f" p p{quarter}" if silent else "")
        told = f"{silent} of {len(units)} dead" + (f", mean {percent(mean)}" if counted else "")
        told += f", {lost} NaN or infinite" if lost else ""
        yield f'<i class="{"q" if lost else kind}" title="units {units[0]}–{units[-1]}: {told}"></i>'
