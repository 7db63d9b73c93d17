"""The ranks of features and the weights of each site as text, for every format with a table of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from statistics import mean

from deadrelu.render.glyphs import BLOCKS, Glyphs
from deadrelu.report import Report, SiteStats

_NUMBERS = ("units", "effective rank", "stable rank", "99% of Σσ", "|w| in", "|w| out")
_LEGEND = {
    "effective rank": "ranks of the outputs, a row for each position: exp of the entropy of σ/Σσ; Σσ²/σ₁²; how many σ"
    " make up 99% of Σσ",
    "|w| in": "|w|: mean size of the weights into and out of a unit, over the units; a dash where a layer is not known",
}


def ranked_or_weighed(report: Report) -> list[SiteStats]:
    """Return the sites that have ranks or weights: none unless they were asked for."""
    return [stats for stats in report.sites if stats.ranks or stats.weight_in or stats.weight_out]


def plasticity_figures(stats: SiteStats, glyphs: Glyphs = BLOCKS) -> dict[str, str]:
    """Return the ranks and the mean weights of a site as text, by the name of their column."""
    ranks, dash = stats.ranks, glyphs.dash
    return {
        "units": f"{stats.site.units:,}",
        "effective rank": f"{ranks.effective_rank:,.1f}" if ranks else dash,
        "stable rank": f"{ranks.stable_rank:,.2f}" if ranks else dash,
        "99% of Σσ": f"{ranks.values_for_99:,}" if ranks else dash,
        "|w| in": f"{mean(stats.weight_in):.3g}" if stats.weight_in else dash,
        "|w| out": f"{mean(stats.weight_out):.3g}" if stats.weight_out else dash,
    }


def plasticity_columns(rows: Collection[dict[str, str]], glyphs: Glyphs = BLOCKS) -> list[str]:
    """Return the names of the columns in which some row has more than a dash."""
    return [name for name in _NUMBERS if any(row[name] != glyphs.dash for row in rows)]


def plasticity_legend(columns: Collection[str]) -> Iterator[str]:
    """Yield what these columns mean, a line each."""
    yield from (meaning for name, meaning in _LEGEND.items() if name in columns)


def plasticity_sentences(columns: Collection[str]) -> str:
    """Return the same as prose."""
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in plasticity_legend(columns))
