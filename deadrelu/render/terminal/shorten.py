"""Cut long names in the middle so that they fit, and still differ from each other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells


def shorten(names: Sequence[str], width: int, ellipsis: str) -> list[list[str]]:
    """Return each name as the lines that show it in `width` columns.

    A name that fits is one line. The others lose their middle, all at the same place: the one that keeps the most of
    them different. Names that would still look the same are folded over several lines instead.
    """
    heads = sorted(range(1, max(2, width - cell_len(ellipsis))), key=lambda head: (abs(head - width // 3), head))
    cuts = ([_cut(name, width, head, ellipsis) for name in names] for head in heads)
    best = max(cuts, key=lambda shown: len(set(shown)), default=list(names))
    behind: dict[str, set[str]] = {}
    for name, shown in zip(names, best, strict=True):
        behind.setdefault(shown, set()).add(name)
    return [
        chop_cells(name, width) if len(behind[shown]) > 1 else [shown] for name, shown in zip(names, best, strict=True)
    ]


def _cut(name: str, width: int, head: int, ellipsis: str) -> str:
    """Keep the first `head` columns of a name, and as many of the last as fit."""
    if cell_len(name) <= width:
        return name
    return _take(name, head) + ellipsis + _take(name[::-1], width - head - cell_len(ellipsis))[::-1]


def _take(text: str, cells: int) -> str:
    """Return the longest prefix that fits in `cells`."""
    taken, used = 0, 0
    for character in text:
        used += cell_len(character)
        if used > cells:
            break
        taken += 1
    return text[:taken]
