"""The table of sites at a terminal: what each column shows of a site, and the totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from deadrelu.render.rows import (
    Row,
    dead_title,
    figures,
    firing_rates,
    judged,
    knows_rates,
    ladder,
    saturated,
    total_figures,
)
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report

_LEGEND = {
    "saturated": "saturated: units that never left the flat part of their activation, where hardly any gradient passes",
    "firing rate": "firing rate: units in each tenth, 0% left to 100% right, dead{} left out",
    "headroom": "headroom: the largest pre-activation that a dead unit saw",
    "gradient": "gradient: RMS of the gradient of the loss at the pre-activations",
}
_GUESSED = "units?: the axis of the units was guessed; no limit applies to these sites"


def table_lines(rows: Sequence[Row], report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the header, one line per site (more where a name is folded), and the totals over all sites."""
    texts = [_texts(row, screen) for row in rows]
    totals = _totals(report, screen)
    grid = fit(_columns([*texts, totals], report), screen.width)
    bar = grid.widths.get("bar", 0)
    cells = [
        {key: Text(value, _style(key, row)) for key, value in text.items()}
        | {"bar": _bar(row.stats.judged_fraction, bar, styles.CONDITION[row.condition], screen)}
        for row, text in zip(rows, texts, strict=True)
    ]
    total = {key: Text(value, "bold") for key, value in totals.items()}
    total["bar"] = _bar(judged(report) / report.summary.units, bar, "", screen)
    yield from grid.draw(cells, total, screen, shortened=("site", "after", "source"))
    if any(stats.site.is_guessed for stats in report.sites):
        yield from paragraph(Text(_GUESSED, "yellow"), screen, first="   ")
    if rungs := ladder(report):
        yield from paragraph(Text(screen.text(rungs), "dim"), screen, first="   ")
    for key, meaning in _LEGEND.items():
        if key in grid.widths and (report.summary.dead or key != "headroom"):
            text = meaning.format(" and saturated" if saturated(report) else "")
            yield from paragraph(Text(screen.text(text), "dim"), screen, first="   ")


def _bar(share: float, width: int, style: str, screen: Screen) -> Text:
    """The dead share as a bar."""
    filled, track = screen.glyphs.bar(share, width)
    return Text.assemble((filled, style), (track, "bright_black"))


def _style(key: str, row: Row) -> str:
    """The style of a cell: what is sick stands out, what is healthy is dim."""
    if key == "mark":
        return styles.MARK[row.condition]
    if row.is_dead and key in ("site", "firing rate"):
        return "bold white on red"
    if key == "site" or (key in ("dead", "share") and row.stats.judged) or (key == "headroom" and row.stats.dead):
        return styles.CONDITION[row.condition]
    if key == "saturated" and row.stats.saturated:
        return styles.UNIT[key]
    return "cyan" if key == "firing rate" or (key == "rare" and row.stats.rare_units) else "dim"


def _texts(row: Row, screen: Screen) -> dict[str, str]:
    """The text of each column for a site."""
    stats, site, glyphs = row.stats, row.stats.site, screen.glyphs
    marks = (glyphs.error, glyphs.error, glyphs.warning, glyphs.note, glyphs.healthy)
    return {
        "mark": marks[row.condition],
        "site": screen.text(site.id),
        "op": screen.text(site.op),
        "after": screen.text(site.after or ""),
        "source": screen.text(f"{site.source.file}:{site.source.line}") if site.source else "",
        "positions": f"{stats.positions:,}",
        **figures(stats, glyphs),
        "firing rate": "ALL DEAD" if row.is_dead else _histogram(firing_rates(stats), stats.knows_rates, screen),
    }


def _totals(report: Report, screen: Screen) -> dict[str, str]:
    """The text of each column for all sites together."""
    rates = (rate for stats in report.sites for rate in firing_rates(stats))
    return {
        **total_figures(report, screen.glyphs),
        "firing rate": _histogram(rates, knows_rates(report), screen),
    }


def _histogram(rates: Iterable[float], known: bool, screen: Screen) -> str:
    """The histogram; a dash where the rates were not counted."""
    return screen.glyphs.histogram(rates) if known else screen.glyphs.dash


def _columns(texts: Sequence[dict[str, str]], report: Report) -> list[Column]:
    """All columns in the order in which they are shown."""
    return [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", texts, rank=0, least=12, gap=1),
        column_of("op", texts, rank=9, extra=True),
        column_of("after", texts, rank=7, least=12, extra=True),
        column_of("source", texts, rank=8, least=16, extra=True),
        column_of("positions", texts, rank=10, right=True, extra=True),
        column_of("units", texts, rank=2, right=True),
        column_of("dead", texts, title=dead_title(report), rank=0, right=True),
        column_of("share", texts, rank=1, right=True),
        Column(key="bar", title="", rank=4, least=6, most=16, gap=1),
        *([column_of("saturated", texts, rank=1, right=True)] if saturated(report) else []),
        column_of("rare", texts, rank=3, right=True),
        column_of("always on", texts, rank=6, right=True, extra=True),
        column_of("firing rate", texts, rank=5),
        column_of("headroom", texts, rank=6, right=True),
        *([column_of("gradient", texts, rank=4, right=True)] if report.gradients else []),
    ]
