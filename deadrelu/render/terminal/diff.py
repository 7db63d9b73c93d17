"""Two reports side by side: a line for each site that changed, with the units that died and those that came back."""

from __future__ import annotations

import json as _json
from collections.abc import Iterator, Sequence

from rich.text import Text

from deadrelu.judge.compare import Change, Comparison, SiteDiff
from deadrelu.render.glyphs import Glyphs, choose
from deadrelu.render.terminal.columns import Column, fit, lines, of
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.shorten import shorten
from deadrelu.report import Report, SiteStats
from deadrelu.text.wording import count, percent, ranges

_STYLE: dict[Change, str] = {
    "non-finite": "bold magenta",
    "worse": "bold red",
    "better": "green",
    "changed": "yellow",
    "new": "cyan",
    "swapped": "yellow",
    "gone": "dim",
    "same": "dim",
}


def render(
    comparison: Comparison, *, width: int = 80, color: bool = False, unicode: bool = True, full: bool = False
) -> str:
    """The comparison as text of at most `width` columns; sites without a change are counted, unless `full`."""
    glyphs = choose(unicode=unicode)
    shown = [site for site in comparison.sites if full or site.change != "same"]
    sections = (
        _head(comparison, glyphs, width),
        _table(shown, comparison, glyphs, width),
        _moved(comparison, glyphs, width),
        _units(shown, glyphs, width),
        _swapped(comparison, glyphs, width),
        _end(comparison, glyphs, width),
    )
    out: list[Text] = []
    for section in sections:
        drawn = list(section)
        out += [Text(), *drawn] if out and drawn else drawn
    return page(out, width=width, color=color)


def as_json(comparison: Comparison) -> str:
    """The comparison as JSON text with a final newline."""
    return _json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _moved(comparison: Comparison, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """The sites that were found under another id."""
    for site in comparison.sites:
        if site.has_moved:
            text = Text.assemble((glyphs.text(site.id), "bold"), f" was {glyphs.text(site.was or '')}")
            yield from paragraph(text, width=width, first=Text("moved  ", "dim"))


def _head(comparison: Comparison, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """What is compared."""
    for label, report in (("old  ", comparison.old), ("new  ", comparison.new)):
        yield from paragraph(_told(report, glyphs), width=width, first=Text(label, "dim"))
    if comparison.old.data.samples != comparison.new.data.samples or (
        comparison.old.data.source != comparison.new.data.source
    ):
        said = "The two were not measured on the same data: part of the change may come from there."
        yield from paragraph(Text(said, "yellow"), width=width, first=Text(f"{glyphs.warning}    ", "yellow"))


def _told(report: Report, glyphs: Glyphs) -> Text:
    """One report in a line: its model, its data, its dead units."""
    summary, data = report.summary, report.data
    source = "SYNTHETIC inputs" if data.kind == "synthetic" else data.source or "data in memory"
    parts = [source, count(data.samples, "sample")]
    parts += [] if report.is_all_leaky else [f"{summary.dead:,} of {count(summary.units, 'unit')} dead"]
    parts += [f"{count(len(report.leaky), 'leaky site')} not measured"] if report.leaky else []
    model = glyphs.text(report.model.path or "a model in memory")
    return Text.assemble((model, "bold"), glyphs.text(glyphs.dot + glyphs.dot.join(parts)))


def _table(shown: Sequence[SiteDiff], comparison: Comparison, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """A line for each site, and one for all."""
    if not shown:
        return
    rows = [_cells(site, glyphs) for site in shown]
    total = _total(comparison, glyphs)
    columns = _columns([*rows, total or {}])
    widths = fit(columns, width)
    names = shorten([row["site"] for row in rows], widths["site"], glyphs.ellipsis)
    yield from lines(columns, widths, {column.key: [Text(column.title, "dim")] for column in columns})
    for site, row, name in zip(shown, rows, names, strict=True):
        cells = {key: [Text(value, _style(key, site.change))] for key, value in row.items()}
        cells["site"] = [Text(part, _style("site", site.change)) for part in name]
        yield from lines(columns, widths, cells)
    if total is not None:
        span = sum(column.gap + widths[column.key] for column in columns if column.key in widths)
        yield Text(" " + glyphs.rule * (span - 1), "dim")
        yield from lines(columns, widths, {key: [Text(value, "bold")] for key, value in total.items()})


def _total(comparison: Comparison, glyphs: Glyphs) -> dict[str, str] | None:
    """What each column says of all sites but the swapped ones: their dead units are not gone, they are not counted.

    None where every site was swapped.
    """
    others = [site for site in comparison.sites if site.change != "swapped"]
    swapped = len(comparison.sites) - len(others)
    name = count(len(others), "other site" if swapped else "site")
    if swapped and not others:
        return None
    both = [[s for site in others if (s := getattr(site, side)) is not None] for side in ("old", "new")]
    old, new = (sum(stats.dead for stats in sites) for sites in both)
    shares = [percent(sum(s.dead for s in sites) / (sum(s.site.units for s in sites) or 1)) for sites in both]
    return {
        "site": name,
        "old": f"{old:,}",
        "new": f"{new:,}",
        "change": _signed(new - old, glyphs),
        "share": f" {glyphs.arrow} ".join(shares),
    }


def _columns(cells: Sequence[dict[str, str]]) -> list[Column]:
    """All columns in the order in which they are shown."""

    def of_key(key: str) -> list[str]:
        return [row.get(key, "") for row in cells]

    return [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        of("site", of_key("site"), rank=0, least=12, gap=1),
        of("what", of_key("what"), rank=2),
        of("units", of_key("units"), rank=5, right=True),
        of("old", of_key("old"), rank=1, right=True),
        of("new", of_key("new"), rank=1, right=True),
        of("change", of_key("change"), rank=0, right=True),
        of("share", of_key("share"), rank=3, right=True),
    ]


def _cells(site: SiteDiff, glyphs: Glyphs) -> dict[str, str]:
    """What each column says of a site."""
    marks = {
        "non-finite": glyphs.skipped,
        "worse": glyphs.error,
        "better": glyphs.healthy,
        "changed": glyphs.warning,
        "new": "+",
        "swapped": "~",
        "gone": "-",
    }
    stats = site.new or site.old
    return {
        "mark": marks.get(site.change, glyphs.note),
        "site": glyphs.text(site.id),
        "what": "now skipped" if site.change == "gone" and site.skipped else site.change,
        "units": f"{stats.site.units:,}" if stats else "",
        "old": _figure(site.old, glyphs),
        "new": _figure(site.new, glyphs),
        "change": _difference(site, glyphs),
        "share": glyphs.arrow.center(len(glyphs.arrow) + 2).join(_share(s, glyphs) for s in (site.old, site.new)),
    }


def _difference(site: SiteDiff, glyphs: Glyphs) -> str:
    """How many more units are dead; a dash where one of the numbers is missing."""
    if site.old is None or site.new is None or site.old.nonfinite_units or site.new.nonfinite_units:
        return glyphs.dash
    return _signed(site.new.dead - site.old.dead, glyphs)


def _figure(stats: SiteStats | None, glyphs: Glyphs) -> str:
    """The number of dead units; where some met NaN, there may be more."""
    return glyphs.dash if stats is None else f"{stats.dead:,}{'?' if stats.nonfinite_units else ''}"


def _share(stats: SiteStats | None, glyphs: Glyphs) -> str:
    """The share of dead units."""
    return glyphs.dash if stats is None else "NaN" if stats.nonfinite_units else percent(stats.dead_fraction)


def _signed(change: int, glyphs: Glyphs) -> str:
    """A change with its sign."""
    return "0" if not change else f"+{change:,}" if change > 0 else glyphs.text(f"−{-change:,}")


def _style(key: str, change: Change) -> str:
    """What changed stands out, the rest steps back."""
    return _STYLE[change] if key in ("mark", "site", "what", "change") else "" if key == "new" else "dim"


def _units(shown: Sequence[SiteDiff], glyphs: Glyphs, width: int) -> Iterator[Text]:
    """The units that changed, by number."""
    told = [site for site in shown if site.newly_dead or site.revived]
    if told:
        yield Text("Units", "bold")
    for site in told:
        parts = []
        if site.newly_dead:
            parts.append(Text.assemble(("newly dead ", "red"), glyphs.text(ranges(site.newly_dead, limit=20))))
        if site.revived:
            parts.append(Text.assemble(("revived ", "green"), glyphs.text(ranges(site.revived, limit=20))))
        name = (glyphs.text(site.id), "bold")
        yield from paragraph(Text.assemble(name, f" {glyphs.dash} ", Text("; ").join(parts)), width=width, first="   ")


def _swapped(comparison: Comparison, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """The sites that leak now, with what was known of them before."""
    if comparison.swapped:
        yield Text("Swapped", "bold")
    for site in comparison.swapped:
        dead = f"{site.old.dead:,} of {count(site.old.site.units, 'unit')}" if site.old else "no unit"
        were = "was" if site.old and site.old.dead == 1 else "were"
        said = f" swapped for {site.swapped_for}; {dead} {were} dead before, and its units are not measured now"
        text = Text.assemble((f"{glyphs.text(site.id)}:", "bold"), glyphs.text(said))
        yield from paragraph(text, width=width, first="   ")


def _end(comparison: Comparison, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """The verdict in a sentence."""
    tally = {change: sum(site.change == change for site in comparison.sites) for change in _STYLE}
    words = {"same": "the same"}
    parts = [f"{number:,} {words.get(change, change)}" for change, number in tally.items() if number]
    died = sum(len(site.newly_dead) for site in comparison.sites)
    back = sum(len(site.revived) for site in comparison.sites)
    badge, style = "NO WORSE", "bold green"
    if comparison.swapped:
        badge, style = "SWAPPED", "bold yellow"
    if comparison.worse:
        badge, style = "WORSE", "bold red"
    verdict = Text.assemble((f" {badge} ", f"{style} reverse"), " ")
    sites = f"{count(len(comparison.sites), 'site')}: {', '.join(parts)}" if parts else "No site was measured in either"
    text = f"{sites}."
    if len(comparison.swapped) < len(comparison.sites) or not comparison.sites:
        text += f" {count(died, 'unit is', 'units are')} newly dead, {back:,} revived."
    if comparison.swapped:
        dead = sum(site.old.dead for site in comparison.swapped if site.old)
        units = count(dead, "unit was", "units were")
        text += f" {units} dead at the swapped sites; nothing is measured there now, and a swap is no cure by itself."
    elif not comparison.sites and comparison.old.is_all_leaky and comparison.new.is_all_leaky:
        text = "Nothing can die here in this sense: every activation leaks in both."
    yield from paragraph(Text(glyphs.text(text), style), width=width, first=verdict)
