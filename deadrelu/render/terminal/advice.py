"""Advice for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from rich.text import Text

from deadrelu.render.advice import HEALTHY, alone, edit_place, site_parts
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.advice import Advice, Edit, GroupAdvice, Remedy

_MOST_NAMES = 8
"""How many sites of a group are named."""


def render(advice: Advice, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the advice as text: on the whole model, then on groups of sites; with `full` on each site.

    Commands and edits are never wrapped: they are there to be copied.
    """
    parts = [_part(part, screen) for part in site_parts(advice, full=full)]
    if parts and advice.whole:
        parts[0] = chain([Text("Site by site", "bold")], parts[0])
    first = (_part(alone(item), screen) for item in advice.first)
    return page([_head(advice, screen), *first, _whole(advice, screen), *parts, *_end(advice, screen, full)], screen)


def _head(advice: Advice, screen: Screen) -> Iterator[Text]:
    """Yield the model and the data."""
    model = Text(screen.text(advice.model or "a model in memory"), "bold")
    yield from paragraph(model, screen, first=Text("model  ", "dim"))
    if advice.data:
        yield from paragraph(Text(screen.text(advice.data)), screen, first=Text("data   ", "dim"))


def _whole(advice: Advice, screen: Screen) -> Iterator[Text]:
    """Yield the remedies for all sick sites at once."""
    if advice.whole:
        yield from paragraph(Text("The whole model, best first", "bold"), screen)
    for number, remedy in enumerate(advice.whole, 1):
        yield from _remedy(number, remedy, screen)


def _end(advice: Advice, screen: Screen, full: bool) -> Iterator[list[Text]]:
    """Yield a line if nothing is sick, what `--full` adds, and the caution."""
    if not advice.first and not any(site_parts(advice, full=full)):
        yield paragraph(Text(f"{screen.glyphs.healthy} {HEALTHY}".strip(), "bold green"), screen)
    if not full and any(group.ailment != "rare" for group in advice.groups):
        more = "--full shows every remedy of each site. Repeat --site to patch several at once."
        yield paragraph(Text(more, "dim"), screen)
    if advice.caution:
        yield paragraph(Text(screen.sentence(advice.caution)), screen, first=Text("Caution: ", "bold yellow"))


def _part(part: GroupAdvice, screen: Screen) -> Iterator[Text]:
    """Yield a part: the sites, what is wrong with them, and what to do about it."""
    glyphs = screen.glyphs
    mark = {"non-finite": glyphs.error, "wholly dead": glyphs.error, "rare": glyphs.note, "skipped": glyphs.skipped}
    style = styles.AILMENT[part.ailment]
    name = Text(screen.text(", ".join(part.sites[:_MOST_NAMES])) if part.sites else "the whole scan", "bold")
    if len(part.sites) > _MOST_NAMES:
        name.append(f" and {len(part.sites) - _MOST_NAMES} more", "bold")
    name.append(f" {glyphs.dash} ").append(part.ailment, style)
    yield from paragraph(name, screen, first=Text(f" {mark.get(part.ailment, glyphs.warning)} ", style))
    yield from paragraph(Text(screen.sentence(part.says)), screen, first="   ")
    for number, remedy in enumerate(part.remedies, 1):
        yield from _remedy(number, remedy, screen)


def _remedy(number: int, remedy: Remedy, screen: Screen) -> Iterator[Text]:
    """Yield a remedy: what to do, why, and the command, the lines of Python, or the edits."""
    first = Text(f"   {number}. ", "bold")
    yield from paragraph(Text(screen.sentence(remedy.title), "bold"), screen, first=first)
    if remedy.why:
        yield from paragraph(Text(screen.sentence(remedy.why), "dim"), screen, first=" " * first.cell_len)
    indent = " " * (first.cell_len + 2)
    if remedy.command is not None:
        yield Text.assemble(indent, (screen.text(remedy.command), "cyan"))
    for line in (remedy.python or "").splitlines():
        yield Text.assemble(indent, (screen.text(line), "cyan"))
    for edit in remedy.edits:
        yield from edit_lines(edit, screen, indent)


def edit_lines(edit: Edit, screen: Screen, indent: str) -> Iterator[Text]:
    """Yield an edit as a small diff under its place; it is never wrapped, so that it can be copied."""
    yield Text.assemble(indent, (screen.text(edit_place(edit)), "bold"))
    yield Text.assemble(indent, (screen.text(f"- {edit.old}"), "red"))
    yield Text.assemble(indent, (screen.text(f"+ {edit.new}"), "green"))
