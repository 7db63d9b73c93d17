"""The table of ranks at a terminal: one line for each site that has them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report, SiteStats

_NUMBERS = ("units", "effective rank", "stable rank", "99% of Σσ")
_LEGEND = "of the outputs, a row for each position: exp of the entropy of σ/Σσ; Σσ²/σ₁²; how many σ make up 99% of Σσ"


def plasticity_lines(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the ranks of each site; nothing if none has any."""
    rows = [_texts(stats, screen) for stats in report.sites if stats.ranks]
    if not rows:
        return
    yield Text("Plasticity", "bold")
    columns = [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=12, gap=1),
        *(column_of(name, rows, rank=1, right=True) for name in _NUMBERS),
    ]
    cells = [{key: Text(value) for key, value in row.items()} for row in rows]
    yield from fit(columns, screen.width).draw(cells, None, screen)
    yield from paragraph(Text(screen.text(_LEGEND), "dim"), screen, first="   ")


def _texts(stats: SiteStats, screen: Screen) -> dict[str, str]:
    """The text of each column for a site with ranks."""
    ranks = stats.ranks
    assert ranks is not None
    numbers = (
        f"{stats.site.units:,}",
        f"{ranks.effective_rank:,.1f}",
        f"{ranks.stable_rank:,.2f}",
        f"{ranks.values_for_99:,}",
    )
    return {"site": screen.text(stats.site.id), **dict(zip(_NUMBERS, numbers, strict=True))}
