"""A table that fits its screen: which columns are shown, and how wide each may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from deadrelu.render.terminal.page import pad
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.shorten import shorten


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: `least` and `most` are its narrowest and widest useful width, `gap` the space before it.

    Columns are added by `rank`, those of rank 0 always. An `extra` column waits until all others are at their widest.
    """

    key: str
    title: str
    rank: int
    least: int
    most: int
    gap: int = 2
    right: bool = False
    extra: bool = False


@dataclass(frozen=True)
class Grid:
    """The columns that fit a screen, and their widths by key."""

    columns: Sequence[Column]
    widths: Mapping[str, int]

    @property
    def width(self) -> int:
        """The width of the whole table."""
        return sum(column.gap + self.widths[column.key] for column in self.columns)

    def draw(
        self,
        rows: Sequence[Mapping[str, Text]],
        total: Mapping[str, Text] | None,
        screen: Screen,
        *,
        shortened: Sequence[str] = ("site",),
    ) -> Iterator[Text]:
        """Yield the header, each row, a rule and the totals; the `shortened` columns are cut to fit their width."""
        yield from self._lines({column.key: [Text(column.title, "dim")] for column in self.columns})
        names = {
            key: shorten([row[key].plain for row in rows], self.widths[key], screen.glyphs.ellipsis)
            for key in shortened
            if key in self.widths
        }
        for number, row in enumerate(rows):
            cells = {key: [text] for key, text in row.items()}
            cells |= {key: [Text(part, row[key].style) for part in parts[number]] for key, parts in names.items()}
            yield from self._lines(cells)
        if total is not None:
            yield Text(" " + screen.glyphs.rule * (self.width - 1), "dim")
            yield from self._lines({key: [text] for key, text in total.items()})

    def _lines(self, cells: Mapping[str, Sequence[Text]]) -> Iterator[Text]:
        """The lines of one row: as many as its highest cell has."""
        for line in range(max(len(cells.get(column.key, ())) for column in self.columns)):
            yield Text.assemble(*(self._cell(column, cells.get(column.key, ()), line) for column in self.columns))

    def _cell(self, column: Column, cell: Sequence[Text], line: int) -> Text:
        """One line of one cell, with the gap before it."""
        text = pad(cell[line] if line < len(cell) else Text(), self.widths[column.key], right=column.right)
        return Text.assemble(" " * column.gap, text)


def fit(columns: Sequence[Column], width: int) -> Grid:
    """Choose columns by rank for as long as they fit `width`, and widen them by rank with what is left over."""
    ranked = sorted(columns, key=lambda column: (column.extra, column.rank))
    widths: dict[str, int] = {}
    spare = width
    for extra in (False, True):
        candidates = [column for column in ranked if column.extra == extra]
        for column in candidates:
            if column.rank == 0 or column.gap + column.least <= spare:
                widths[column.key] = column.least
                spare -= column.gap + column.least
        for column in candidates:
            if column.key in widths:
                more = max(0, min(spare, column.most - column.least))
                widths[column.key] += more
                spare -= more
    return Grid([column for column in columns if column.key in widths], widths)


def course_column(points: int) -> Column:
    """Return the column of a course of so many points."""
    return Column(key="course", title="course", rank=1, least=min(max(points, 6), 10), most=max(points, 6))


def column_of(
    key: str,
    rows: Sequence[Mapping[str, str]],
    *,
    rank: int,
    title: str = "",
    least: int | None = None,
    gap: int = 2,
    right: bool = False,
    extra: bool = False,
) -> Column:
    """Return a column as wide as its cells in `rows`; with `least` it may be squeezed down to that.

    Its title is `key`, unless another is given.
    """
    title = title or key
    most = max([cell_len(title), *(cell_len(row.get(key, "")) for row in rows)])
    narrow = most if least is None else min(least, most)
    return Column(key=key, title=title, rank=rank, least=narrow, most=most, gap=gap, right=right, extra=extra)
