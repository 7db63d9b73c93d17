"""From styled lines to text: wrapping, padding, and rich's console kept from changing a letter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO

from rich.console import Console
from rich.text import Text

from deadrelu.render.conclusion import Mood
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.styles import MOOD

NARROWEST = 24
"""On a narrower screen lines run over, rather than break after every word."""


def page(sections: Iterable[Iterable[Text]], screen: Screen) -> str:
    """Return the sections as text with an empty line between them, a final newline and no trailing spaces.

    A section without a line is left out.
    """
    console = _console(screen)
    is_first = True
    for section in sections:
        lines = list(section)
        if lines and not is_first:
            console.print()
        is_first &= not lines
        for line in lines:
            line.rstrip()
            console.print(line, soft_wrap=True)
    file = console.file
    return file.getvalue() if isinstance(file, StringIO) else ""


def paragraph(text: Text, screen: Screen, *, first: Text | str = "", width: int | None = None) -> list[Text]:
    """Return the text behind `first`, wrapped to the screen (or to `width`); later lines are indented as far."""
    lead = first if isinstance(first, Text) else Text(first)
    room = max((width or screen.width) - lead.cell_len, NARROWEST // 2)
    lines = list(text.wrap(_console(screen), room)) or [Text()]
    return [Text.assemble(" " * lead.cell_len if n else lead, line) for n, line in enumerate(lines)]


def outcome(headline: str, mood: Mood, sentences: Iterable[str], screen: Screen) -> Iterator[Text]:
    """Yield the outcome of a page: its headline as a badge before the first sentence, and the others."""
    style = MOOD[mood]
    first, *others = sentences
    badge = Text.assemble((f" {headline} ", f"{style} reverse"), " ")
    yield from paragraph(Text(screen.sentence(first), style), screen, first=badge)
    for said in others:
        yield from paragraph(Text(screen.sentence(said)), screen, first=" ")


def pad(text: Text, width: int, *, right: bool = False) -> Text:
    """Return the text filled up with spaces to `width` columns, on its left if it is aligned `right`."""
    gap = " " * max(0, width - text.cell_len)
    return Text.assemble(gap, text) if right else Text.assemble(text, gap)


def _console(screen: Screen) -> Console:
    """A console that writes to a string. Height and width are given, so that it does not ask the terminal."""
    return Console(
        file=StringIO(),
        width=max(screen.width, NARROWEST),
        height=100,
        color_system="truecolor" if screen.color else None,
        force_terminal=screen.color,
        no_color=not screen.color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
