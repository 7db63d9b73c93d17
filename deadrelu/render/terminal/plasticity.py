"""The table of ranks and weights at a terminal: one line for each site that has any."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.plasticity import plasticity_columns, plasticity_figures, plasticity_legend, ranked_or_weighed
from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report


def plasticity_lines(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the ranks and the weights of each site; nothing if none has any."""
    known = ranked_or_weighed(report)
    if not known:
        return
    yield Text("Plasticity", "bold")
    rows = [{"site": screen.text(stats.site.id), **plasticity_figures(stats, screen.glyphs)} for stats in known]
    columns = [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=12, gap=1),
        *(column_of(name, rows, rank=1, right=True) for name in plasticity_columns(rows, screen.glyphs)),
    ]
    grid = fit(columns, screen.width)
    yield from grid.draw([{key: Text(value) for key, value in row.items()} for row in rows], None, screen)
    for meaning in plasticity_legend(grid.widths):
        yield from paragraph(Text(screen.text(meaning), "dim"), screen, first="   ")
