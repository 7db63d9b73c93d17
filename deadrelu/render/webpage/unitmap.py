"""The map of a site: a cell per unit, coloured by firing rate; a cell stands for several units of a huge site.

A cell is an `<i>` of a few dozen bytes with a hover title: a page with 100,000 units must still open.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.render.glyphs import BLOCKS, tenth
from deadrelu.render.rows import saturated
from deadrelu.render.webpage.markup import Html, el, join
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent, ranges

MOST_CELLS = 24_000
"""The cells of a page; above that, a cell of the largest sites stands for several units."""

_CAPS = (4096, 2048, 1024, 512, 256, 128, 64)


def most_cells(report: Report) -> int:
    """Return how many cells a site may have, to keep the page below `MOST_CELLS`; never fewer than 64."""
    units = [stats.site.units for stats in report.sites]
    return next((cap for cap in _CAPS if sum(min(n, cap) for n in units) <= MOST_CELLS), _CAPS[-1])


def unit_map(stats: SiteStats, most: int) -> Html:
    """Return the map in at most `most` cells; each row starts with the number of its first unit.

    For a screen reader it is one picture, whose label says what the cells show.
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
    label = f"Map of {count(units, 'unit')}, {dead}"
    label += f"; {stats.saturated:,} saturated: {ranges(stats.saturated_units, limit=20)}" if stats.saturated else ""
    label += f"; {len(stats.rare_units):,} rare" if stats.knows_rates else "; firing rates were not counted"
    picture = el("div", Html("".join(rows)), class_="map", style=f"--n:{columns}", role="img", aria_label=label)
    if each == 1:
        return picture
    note = f"Each cell stands for {each:,} units and has their mean rate. A marked corner grows with the share of dead."
    return join(picture, el("p", note, class_="quiet"))


def legend(report: Report) -> Html:
    """Return the legend of the maps."""
    scale = Html("".join(f'<i class="k{n}"></i>' for n in range(10)))
    flat = [("s", "saturated")] if saturated(report) else []
    marks = (("x", "dead"), *flat, ("r", "rare"), ("q", "NaN or infinite"))
    items = [el("li", Html(f'<i class="{kind}"></i>'), name) for kind, name in marks]
    rate = el("li", "firing rate 0%", el("span", scale, class_="scale"), "100%")
    return el("ul", rate, *items, class_="legend", aria_label="What the cells of the maps mean")


def _single(stats: SiteStats) -> Iterator[str]:
    """Yield a cell for each unit."""
    dead, rare, unknown = set(stats.dead_units), set(stats.rare_units), set(stats.nonfinite_units)
    flat = set(stats.saturated_units)
    side = dict.fromkeys(stats.saturated_low_units, " low") | dict.fromkeys(stats.saturated_high_units, " high")
    for unit, (rate, top) in enumerate(zip(stats.firing_rate, stats.max_preactivation, strict=True)):
        near = BLOCKS.number(top)
        if unit in unknown:
            kind, title = "q", "NaN or infinite, " + ("fired" if rate is None else f"fired at {percent(rate)} or more")
        elif unit in dead:
            kind, title = "x", f"dead, headroom {near}"
        elif unit in flat:
            kind, title = "s", f"saturated{side.get(unit, '')}, max {near}"
        elif rate is None:
            kind, title = "k9", "fired"
        else:
            kind, title = ("r", f"rare, {percent(rate)}") if unit in rare else (f"k{tenth(rate)}", percent(rate))
            title += f", max {near}"
        yield f'<i class="{kind}" title="unit {unit}: {title}"></i>'


def _grouped(stats: SiteStats, each: int) -> Iterator[str]:
    """Yield a cell for every `each` units."""
    dead, flat, unknown = map(set, (stats.dead_units, stats.saturated_units, stats.nonfinite_units))
    for start in range(0, stats.site.units, each):
        units = range(start, min(start + each, stats.site.units))
        known = [rate for unit in units if (rate := stats.firing_rate[unit]) is not None]
        counted = len(known) == len(units)
        mean = sum(known) / len(units) if counted else 1.0
        silent, lost = sum(unit in dead for unit in units), sum(unit in unknown for unit in units)
        quarter = 4 * silent // len(units)
        kind = "x" if quarter == 4 else f"k{tenth(mean)}" + (f" p p{quarter}" if silent else "")
        title = f"{silent} of {len(units)} dead" + (f", mean {percent(mean)}" if counted else "")
        stuck = sum(unit in flat for unit in units)
        title += f", {stuck} saturated" if stuck else ""
        title += f", {lost} NaN or infinite" if lost else ""
        yield f'<i class="{"q" if lost else kind}" title="units {units[0]}–{units[-1]}: {title}"></i>'
