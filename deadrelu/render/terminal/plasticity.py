"""The table of ranks and weights at a terminal: one line for each site that has any."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from rich.text import Text

from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report, SiteStats

_NUMBERS = ("units", "effective rank", "stable rank", "99% of Σσ", "|w| in", "|w| out")
_LEGEND = {
    "effective rank": "ranks of the outputs, a row for each position: exp of the entropy of σ/Σσ; Σσ²/σ₁²; how many σ"
    " make up 99% of Σσ",
    "|w| in": "|w|: mean size of the weights into and out of a unit, over the units; a dash where a layer is not known",
}


def plasticity_lines(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the ranks and the weights of each site; nothing if none has any."""
    known = [stats for stats in report.sites if stats.ranks or stats.weight_in or stats.weight_out]
    if not known:
        return
    yield Text("Plasticity", "bold")
    rows, dash = [_texts(stats, screen) for stats in known], screen.glyphs.dash
    columns = [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=12, gap=1),
        *(column_of(name, rows, rank=1, right=True) for name in _NUMBERS if any(row[name] != dash for row in rows)),
    ]
    grid = fit(columns, screen.width)
    yield from grid.draw([{key: Text(value) for key, value in row.items()} for row in rows], None, screen)
    for key, meaning in _LEGEND.items():
        if key in grid.widths:
            yield from paragraph(Text(screen.text(meaning), "dim"), screen, first="   ")


def _texts(stats: SiteStats, screen: Screen) -> dict[str, str]:
    """The text of each column for a site."""
    ranks, dash = stats.ranks, screen.glyphs.dash
    return {
        "site": screen.text(stats.site.id),
        "units": f"{stats.site.units:,}",
        "effective rank": f"{ranks.effective_rank:,.1f}" if ranks else dash,
        "stable rank": f"{ranks.stable_rank:,.2f}" if ranks else dash,
        "99% of Σσ": f"{ranks.values_for_99:,}" if ranks else dash,
        "|w| in": f"{mean(stats.weight_in):.3g}" if stats.weight_in else dash,
        "|w| out": f"{mean(stats.weight_out):.3g}" if stats.weight_out else dash,
    }
