"""Long names cut in the middle so that they fit, yet stay different from each other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells


def shorten(names: Sequence[str], width: int, ellipsis: str) -> list[list[str]]:
    """Each name as the lines that show it in `width` columns.

    A name that fits is one line. Others lose their middle, all at the same place: the one that leaves the most of them
    different. Names that would still look alike are not cut but folded over several lines, so that none is lost.
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
    """The first `head` columns of a name and as many of its last as there is room for."""
    if cell_len(name) <= width:
        return name
    return _take(name, head) + ellipsis + _take(name[::-1], width - head - cell_len(ellipsis))[::-1]


def _take(text: str, cells: int) -> str:
    """The longest beginning that is no wider than `cells`."""
    taken, used = 0, 0
    for character in text:
        used += cell_len(character)
        if used > cells:
            break
        taken += 1
    return text[:taken]
