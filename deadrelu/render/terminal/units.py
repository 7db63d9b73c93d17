"""A map of one site: a cell per unit, then the dead units by number."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.causes import main_cause, units_by_cause
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import SiteStats
from deadrelu.text.wording import count, percent, ranges

GROUP = 10
"""Units are drawn in groups of ten, so that a number can be read off."""

MOST_UNIT_ROWS = 40
"""With more rows than this, those in which every unit fires are only counted."""


def render(stats: SiteStats, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the units of one site as text.

    With more than `MOST_UNIT_ROWS` rows, only those with a unit that does not fire are shown, unless `full`.
    """
    legend = [*_legend(stats, screen), *_sick(stats, screen)]
    return page([_head(stats, screen), _map(stats, screen, full), legend], screen)


def _head(stats: SiteStats, screen: Screen) -> Iterator[Text]:
    """Yield the site and its figures."""
    site = stats.site
    yield from paragraph(Text(screen.text(site.id), "bold"), screen)
    parts = [site.op if site.after is None else f"{site.op} after {site.after}"]
    if site.source:
        parts.append(f"{site.source.file}:{site.source.line}")
    parts += [count(site.units, "unit"), f"{stats.dead:,} dead ({percent(stats.dead_fraction)})"]
    parts += [f"{stats.saturated:,} saturated"] if stats.saturated else []
    if stats.knows_rates:
        parts += [f"{len(stats.rare_units):,} rare", f"{len(stats.always_on_units):,} always on"]
    parts.append(count(stats.samples, "sample"))
    yield from paragraph(Text(screen.text(screen.glyphs.dot.join(parts)), "dim"), screen)


def _map(stats: SiteStats, screen: Screen, full: bool) -> Iterator[Text]:
    """Yield the rows of cells, with the number of each row's first unit on the left, and a header."""
    label = len(f"{stats.site.units - 1}")
    groups = max(1, (screen.width - label - 1) // (GROUP + 1))
    groups = next(fit for fit in (10, 5, 2, 1) if fit <= groups)
    cells = _cells(stats, screen)
    starts = range(0, len(cells), groups * GROUP)
    unwell = (*stats.dead_units, *stats.saturated_units, *stats.nonfinite_units)
    sick = {unit // (groups * GROUP) for unit in unwell}
    everything = full or len(starts) <= MOST_UNIT_ROWS
    yield Text(
        " " * label + "".join(f" {n * GROUP:<{GROUP}}" for n in range(min(groups, -(-len(cells) // GROUP)))), "dim"
    )
    for row, start in enumerate(starts):
        if everything or row in sick:
            line = Text.assemble((f"{start:>{label}}", "dim"))
            for first in range(start, min(start + groups * GROUP, len(cells)), GROUP):
                line.append(" ")
                for sign, kind in cells[first : first + GROUP]:
                    line.append(sign, styles.UNIT[kind])
            yield line
    if not everything:
        yield Text(
            f"{screen.glyphs.ellipsis} and {count(len(starts) - len(sick), 'row')} in which every unit fires", "dim"
        )


def _cells(stats: SiteStats, screen: Screen) -> list[tuple[str, str]]:
    """The character and the kind of each unit."""
    top = len(screen.glyphs.cells)
    # A unit with an unknown rate fired: it gets the highest cell.
    cells = [
        (screen.glyphs.cells[top - 1 if rate is None else min(int(rate * top), top - 1)], "fires")
        for rate in stats.firing_rate
    ]
    for sign, kind, units in _marked(stats, screen):
        for unit in units:
            cells[unit] = (sign, kind)
    return cells


def _marked(stats: SiteStats, screen: Screen) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """The character, the kind and the numbers of the units that have no level of their own."""
    glyphs = screen.glyphs
    return (
        (glyphs.dead, "dead", stats.dead_units),
        (glyphs.saturated, "saturated", stats.saturated_units),
        (glyphs.rare, "rare", stats.rare_units),
        (glyphs.skipped, "nonfinite", stats.nonfinite_units),
    )


def _legend(stats: SiteStats, screen: Screen) -> Iterator[Text]:
    """Yield what the characters mean; those that do not occur are left out."""
    text = Text.assemble((screen.glyphs.cells, styles.UNIT["fires"]), " firing rate from 0% to 100%")
    if not stats.knows_rates:
        text = Text.assemble((screen.glyphs.cells[-1], styles.UNIT["fires"]), " fired; how often was not counted")
    for sign, kind, units in _marked(stats, screen):
        if units:
            text.append("   ").append(sign, styles.UNIT[kind]).append(
                " NaN or infinite" if kind == "nonfinite" else f" {kind}"
            )
    yield from paragraph(text, screen)


def _sick(stats: SiteStats, screen: Screen) -> Iterator[Text]:
    """Yield the dead, saturated and non-finite units by number, and how near the dead came to firing."""
    if stats.nonfinite_units:
        listed = Text(screen.text(ranges(stats.nonfinite_units, limit=40)))
        yield from paragraph(listed, screen, first=Text("NaN or infinite: ", styles.UNIT["nonfinite"]))
    low, high = stats.saturated_low_units, stats.saturated_high_units
    neither = sorted({*stats.saturated_units} - {*low, *high})
    for side, units in (("saturated", neither), ("saturated low", low), ("saturated high", high)):
        if units:
            listed = Text(screen.text(ranges(units, limit=40)))
            yield from paragraph(listed, screen, first=Text(f"{side}: ", styles.UNIT["saturated"]))
    if not stats.dead:
        yield from paragraph(Text("No unit is dead."), screen)
        return
    listed = Text(screen.text(ranges(stats.dead_units, limit=40)))
    yield from paragraph(listed, screen, first=Text("dead: ", styles.UNIT["dead"]))
    room = stats.headroom
    if room is not None:
        nearest = next(unit for unit in stats.dead_units if stats.max_preactivation[unit] == room)
        text = f"the largest pre-activation of a dead unit was {screen.glyphs.number(room)}, in unit {nearest}"
        yield from paragraph(Text(text), screen, first=Text("headroom: ", "dim"))
    for cause, units in units_by_cause(stats):
        listed = Text(screen.text(f"{count(len(units), 'unit')}: {ranges(units, limit=40)}"))
        yield from paragraph(listed, screen, first=Text(f"cause {cause}: ", "dim"))
    if said := main_cause(stats):
        yield from paragraph(Text(screen.sentence(said)), screen, first=Text("why: ", "dim"))
