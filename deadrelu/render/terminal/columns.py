"""A table that fits its width: which columns are shown, and how wide each may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from deadrelu.render.terminal.page import pad


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: `least` and `most` are its narrowest and widest useful width, `gap` the space before it.

    `rank` says how early it is chosen, 0 always. An `extra` column waits until all others have their widest width.
    """

    key: str
    title: str
    rank: int
    least: int
    most: int
    gap: int = 2
    right: bool = False
    extra: bool = False


def fit(columns: Sequence[Column], width: int) -> dict[str, int]:
    """The widths of the chosen columns by key, in the order given.

    Columns are added by rank for as long as they fit; what is left over then widens them, by rank.
    """
    ranked = sorted(columns, key=lambda column: (column.extra, column.rank))
    widths: dict[str, int] = {}
    spare = width
    for extra in (False, True):
        chosen = [column for column in ranked if column.extra == extra]
        for column in chosen:
            if column.rank == 0 or column.gap + column.least <= spare:
                widths[column.key] = column.least
                spare -= column.gap + column.least
        for column in chosen:
            if column.key in widths:
                more = max(0, min(spare, column.most - column.least))
                widths[column.key] += more
                spare -= more
    return {column.key: widths[column.key] for column in columns if column.key in widths}


def lines(columns: Sequence[Column], widths: Mapping[str, int], cells: Mapping[str, Sequence[Text]]) -> list[Text]:
    """The lines of one row: as many as its highest cell has."""
    shown = [column for column in columns if column.key in widths]
    height = max(len(cells.get(column.key, ())) for column in shown)
    return [Text.assemble(*(_cell(c, widths[c.key], cells.get(c.key, ()), n) for c in shown)) for n in range(height)]


def of(
    key: str,
    cells: Sequence[str],
    *,
    rank: int,
    least: int | None = None,
    gap: int = 2,
    right: bool = False,
    extra: bool = False,
) -> Column:
    """A column under its key as title, as wide as its cells; with `least` it may be squeezed down to that."""
    most = max([cell_len(key), *map(cell_len, cells)])
    narrow = most if least is None else min(least, most)
    return Column(key=key, title=key, rank=rank, least=narrow, most=most, gap=gap, right=right, extra=extra)


def _cell(column: Column, width: int, cell: Sequence[Text], line: int) -> Text:
    """One line of one cell, with the gap before it."""
    text = pad(cell[line] if line < len(cell) else Text(), width, right=column.right)
    return Text.assemble(" " * column.gap, text)
