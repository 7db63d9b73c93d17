"""A proof for a person at a terminal: the sites with their proved, woken and open units; what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from deadrelu.render.proof import words
from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import outcome, page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.proof import Proof, SiteProof
from deadrelu.text.wording import count, ranges

_STYLES = {"proved": "bold red", "woken": "green", "open": "yellow", "always on": "dim", "given": "dim"}
_LISTED = 12


def render(proof: Proof, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the proof as text; with `full`, the numbers of all units. The next command is never wrapped."""
    sections = (_head(proof, screen), _table(proof, screen), _units(proof, screen, full), _conclusion(proof, screen))
    return page((*sections, _next(proof, screen)), screen)


def _head(proof: Proof, screen: Screen) -> Iterator[Text]:
    """Yield the model, the data and the box."""
    model, dot = proof.model, screen.glyphs.dot
    parts = [model.path or "a model in memory", model.format, count(model.parameters, "parameter")]
    yield from paragraph(Text(screen.text(dot.join(parts)), "bold"), screen, first=Text("model  ", "dim"))
    data = f"{proof.data.source or 'synthetic inputs'}{dot}{count(proof.data.samples, 'sample')}"
    yield from paragraph(Text(screen.text(data)), screen, first=Text("data   ", "dim"))
    yield from paragraph(Text(screen.sentence(str(proof.box))), screen, first=Text("box    ", "dim"))


def _table(proof: Proof, screen: Screen) -> Iterator[Text]:
    """Yield a line for each site, and their sum."""
    rows = [_cells(site, screen) for site in proof.sites]
    columns = [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("site", rows, rank=0, least=17, gap=1),
        column_of("units", rows, rank=3, right=True),
        column_of("silent", rows, rank=1, right=True),
        *(column_of(name, rows, rank=0, right=True) for name in ("proved", "woken", "open")),
        column_of("given", rows, rank=2, title="given range", right=True),
        column_of("always on", rows, rank=4, right=True),
    ]
    styled = [{key: Text(text, _style(key, text)) for key, text in row.items()} for row in rows]
    yield from fit(columns, screen.width).draw(styled, None, screen, shortened=("site",))
    yield from paragraph(Text(screen.sentence(words.proof_caption()), "dim"), screen, first="   ")


def _style(key: str, text: str) -> str:
    """The style of a cell: a zero is quiet."""
    return "dim" if text in ("0", "-", "") or key == "units" else _STYLES.get(key, "")


def _cells(site: SiteProof, screen: Screen) -> Mapping[str, str]:
    """The text of each column."""
    mark = screen.glyphs.warning if site.obstacle else screen.glyphs.note if site.open_units else screen.glyphs.healthy
    return {
        "mark": mark,
        "site": screen.text(site.id),
        "units": f"{site.units:,}",
        "silent": f"{site.silent:,}",
        "proved": f"{len(site.proved_units):,}",
        "woken": f"{len(site.woken_units):,}",
        "open": f"{len(site.open_units):,}",
        "given": f"{len(site.conditional_units):,}",
        "always on": f"{len(site.always_on_units):,}",
    }


def _units(proof: Proof, screen: Screen, full: bool) -> Iterator[Text]:
    """Yield the numbers of the units, and the sites without bounds with their reasons."""
    for site in proof.sites:
        parts = [
            f"{name} {ranges(units, len(units) if full else _LISTED)}"
            for name, units in (
                ("proved", site.proved_units),
                ("woken", site.woken_units),
                ("open", site.open_units),
                *((("always on", site.always_on_units),) if full else ()),
            )
            if units
        ]
        if parts:
            text = Text.assemble((f"{screen.text(site.id)}  ", "bold"), screen.sentence("; ".join(parts)))
            yield from paragraph(text, screen, first=Text(f" {screen.glyphs.note} ", "dim"))
        if site.obstacle:
            text = Text.assemble((f"{screen.text(site.id)}  ", "bold"), screen.sentence(f"no bound: {site.obstacle}"))
            yield from paragraph(text, screen, first=Text(f" {screen.glyphs.warning} ", "yellow"))


def _conclusion(proof: Proof, screen: Screen) -> Iterator[Text]:
    """Yield the outcome."""
    yield from outcome(words.proof_headline(proof), words.proof_mood(proof), words.proof_sentences(proof), screen)


def _next(proof: Proof, screen: Screen) -> Iterator[Text]:
    """Yield the command that shows the witnesses at work."""
    if proof.next_command:
        yield Text("Scan the inputs that wake them:", "dim")
        yield Text(f"  {screen.text(proof.next_command)}", "bold")
