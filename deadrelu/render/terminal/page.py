"""From styled lines to text: wrapping, padding, and rich's console kept from changing a letter."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich.console import Console
from rich.text import Text

NARROWEST = 24
"""Below this many columns lines run over rather than dissolve."""


def page(lines: Iterable[Text], *, width: int, color: bool) -> str:
    """The lines as text with a final newline and no trailing spaces; ANSI colours only if `color`."""
    console = _console(width, color)
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
    file = console.file
    return file.getvalue() if isinstance(file, StringIO) else ""


def paragraph(text: Text, *, width: int, first: Text | str = "") -> list[Text]:
    """The text wrapped to `width` columns behind `first`; later lines hang under the first."""
    lead = first if isinstance(first, Text) else Text(first)
    lines = list(text.wrap(_console(width, False), max(width - lead.cell_len, NARROWEST // 2))) or [Text()]
    return [Text.assemble(" " * lead.cell_len if n else lead, line) for n, line in enumerate(lines)]


def pad(text: Text, width: int, *, right: bool = False) -> Text:
    """The text filled up with spaces to `width` columns, on its left if it stands `right`."""
    gap = " " * max(0, width - text.cell_len)
    return Text.assemble(gap, text) if right else Text.assemble(text, gap)


def _console(width: int, color: bool) -> Console:
    """A console onto a string. Height and width are given, so that no terminal is asked."""
    return Console(
        file=StringIO(),
        width=max(width, NARROWEST),
        height=100,
        color_system="truecolor" if color else None,
        force_terminal=color,
        no_color=not color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
