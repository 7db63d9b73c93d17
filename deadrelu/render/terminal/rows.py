"""The rows of the terminal's table: what each column shows of a site, and the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from deadrelu.render.condition import Condition
from deadrelu.render.glyphs import Glyphs
from deadrelu.render.terminal.columns import Column, fit, lines, of
from deadrelu.render.terminal.page import paragraph
from deadrelu.render.terminal.shorten import shorten
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent

_STYLE = {
    Condition.DEAD: "bold red",
    Condition.ERROR: "red",
    Condition.WARNING: "yellow",
    Condition.NOTE: "",
    Condition.HEALTHY: "",
}
_LEGEND = {
    "firing rate": "firing rate: units in each tenth, 0% left to 100% right, dead left out",
    "headroom": "headroom: the largest pre-activation that a dead unit saw",
}
_GUESSED = "units?: the axis of the units was guessed; no limit applies to these sites"
_NAMES = ("site", "after", "source")
_MARK_STYLE = _STYLE | {Condition.NOTE: "cyan", Condition.HEALTHY: "green"}


@dataclass(frozen=True)
class Row:
    """A site and its condition."""

    stats: SiteStats
    condition: Condition


def rates(stats: SiteStats) -> Iterator[float]:
    """The known firing rates for the histogram: dead units have their own column, and NaN leaves a rate unknown."""
    apart = {*stats.dead_units, *stats.nonfinite_units}
    return (rate for unit, rate in enumerate(stats.firing_rate) if rate is not None and unit not in apart)


def table_lines(rows: Sequence[Row], report: Report, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """Header, one line a site (more where a name is folded), and the totals over all sites of the report."""
    texts = [_texts(row, glyphs) for row in rows]
    totals = _totals(report, glyphs)
    columns = _columns([*texts, totals])
    widths = fit(columns, width)
    names = {
        key: shorten([text[key] for text in texts], widths[key], glyphs.ellipsis) for key in _NAMES if key in widths
    }
    yield from lines(columns, widths, {column.key: [Text(column.title, "dim")] for column in columns})
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        cells = {key: [Text(value, _style(key, row))] for key, value in text.items()}
        cells |= {key: [Text(part, _style(key, row)) for part in folded[place]] for key, folded in names.items()}
        cells["bar"] = [_bar(row.stats.dead_fraction, widths.get("bar", 0), _STYLE[row.condition], glyphs)]
        yield from lines(columns, widths, cells)
    span = sum(column.gap + widths[column.key] for column in columns if column.key in widths)
    yield Text(" " + glyphs.rule * (span - 1), "dim")
    cells = {key: [Text(value, "bold")] for key, value in totals.items()}
    cells["bar"] = [_bar(report.summary.dead_fraction, widths.get("bar", 0), "", glyphs)]
    yield from lines(columns, widths, cells)
    if any(stats.site.is_guessed for stats in report.sites):
        yield from paragraph(Text(_GUESSED, "yellow"), width=width, first="   ")
    for key, meaning in _LEGEND.items():
        if key in widths and (report.summary.dead or key != "headroom"):
            yield from paragraph(Text(glyphs.text(meaning), "dim"), width=width, first="   ")


def _bar(share: float, width: int, style: str, glyphs: Glyphs) -> Text:
    """The dead share as a bar."""
    filled, track = glyphs.bar(share, width)
    return Text.assemble((filled, style), (track, "bright_black"))


def _style(key: str, row: Row) -> str:
    """The style of a cell: what is sick stands out, what is healthy steps back."""
    if key == "mark":
        return _MARK_STYLE[row.condition]
    if row.condition is Condition.DEAD and key in ("site", "firing rate"):
        return "bold white on red"
    if key == "site" or (key in ("dead", "share", "headroom") and row.stats.dead):
        return _STYLE[row.condition]
    return "cyan" if key == "firing rate" or (key == "rare" and row.stats.rare_units) else "dim"


def _texts(row: Row, glyphs: Glyphs) -> dict[str, str]:
    """What each column says of a site."""
    stats, site = row.stats, row.stats.site
    marks = (glyphs.error, glyphs.error, glyphs.warning, glyphs.note, glyphs.healthy)
    return {
        "mark": marks[row.condition],
        "site": glyphs.text(site.id),
        "op": glyphs.text(site.op),
        "after": glyphs.text(site.after or ""),
        "source": glyphs.text(f"{site.source.file}:{site.source.line}") if site.source else "",
        "positions": f"{stats.positions:,}",
        "units": f"{site.units:,}{'?' if site.is_guessed else ''}",
        "dead": f"{stats.dead:,}",
        "share": percent(stats.dead_fraction),
        "rare": f"{len(stats.rare_units):,}" if stats.knows_rates else glyphs.dash,
        "always on": f"{len(stats.always_on_units):,}" if stats.knows_rates else glyphs.dash,
        "firing rate": "ALL DEAD"
        if row.condition is Condition.DEAD
        else _histogram(rates(stats), stats.knows_rates, glyphs),
        "headroom": glyphs.number(stats.headroom),
    }


def _totals(report: Report, glyphs: Glyphs) -> dict[str, str]:
    """The same for all sites together."""
    summary = report.summary
    known = all(stats.knows_rates for stats in report.sites)
    return {
        "site": count(summary.sites, "site"),
        "units": f"{summary.units:,}",
        "dead": f"{summary.dead:,}",
        "share": percent(summary.dead_fraction),
        "rare": f"{summary.rare:,}" if known else glyphs.dash,
        "always on": f"{summary.always_on:,}" if known else glyphs.dash,
        "firing rate": _histogram((rate for stats in report.sites for rate in rates(stats)), known, glyphs),
    }


def _histogram(of: Iterator[float], known: bool, glyphs: Glyphs) -> str:
    """The histogram; a dash where the rates were not counted."""
    return glyphs.histogram(of) if known else glyphs.dash


def _columns(texts: Sequence[dict[str, str]]) -> list[Column]:
    """All columns in the order in which they are shown."""

    def cells(key: str) -> list[str]:
        return [text.get(key, "") for text in texts]

    return [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        of("site", cells("site"), rank=0, least=12, gap=1),
        of("op", cells("op"), rank=9, extra=True),
        of("after", cells("after"), rank=7, least=12, extra=True),
        of("source", cells("source"), rank=8, least=16, extra=True),
        of("positions", cells("positions"), rank=10, right=True, extra=True),
        of("units", cells("units"), rank=2, right=True),
        of("dead", cells("dead"), rank=0, right=True),
        of("share", cells("share"), rank=1, right=True),
        Column(key="bar", title="", rank=4, least=6, most=16, gap=1),
        of("rare", cells("rare"), rank=3, right=True),
        of("always on", cells("always on"), rank=6, right=True, extra=True),
        of("firing rate", cells("firing rate"), rank=5),
        of("headroom", cells("headroom"), rank=6, right=True),
    ]
