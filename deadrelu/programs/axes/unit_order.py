"""Where the units of a layer are, in their order, after operators that move the entries of its output."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deadrelu.programs.axes.operator_call import OperatorCall

_IN_ORDER = frozenset(
    {"view", "unsafe_view", "reshape", "reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten", "contiguous"}
    | {"clone", "detach", "alias", "to_copy", "dropout", "native_dropout", "probe", "lift_fresh"}
)
"""Operators after which the entries, read row by row, come in the same order."""

MOVES = _IN_ORDER | {"transpose", "permute", "t"}
"""Operators after which each entry still is what it was."""


def move_axes(call: OperatorCall, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the units that were on these `axes`, the outermost first, are after one of `MOVES`.

    None if the units, in their order, do not make up a run of whole axes any more.
    """
    x, out = call.source, call.out
    if call.name not in _IN_ORDER:
        if call.name == "permute":
            order = list(call.dims("dims", of=x))
        else:
            order = list(range(x.ndim))
            first, second = call.dims("dim0", of=x) or (0,), call.dims("dim1", of=x) or (x.ndim - 1,)
            order[first[0]], order[second[0]] = order[second[0]], order[first[0]]
        return tuple(order.index(axis) for axis in axes)
    if x.shape == out.shape:
        return axes
    if axes != tuple(range(axes[0], axes[0] + len(axes))):
        return None
    return _run(x.shape, axes, out.shape)


def _run(old: Sequence[int], axes: tuple[int, ...], new: Sequence[int]) -> tuple[int, ...] | None:
    """The run of axes of shape `new` that a reshape makes of the run `axes` of shape `old`."""
    before, units = math.prod(old[: axes[0]]), math.prod(old[axis] for axis in axes)
    for start in range(len(new)):
        if math.prod(new[:start]) != before or (new[start] == 1 and units > 1):
            continue
        for end in range(start + 1, len(new) + 1):
            if math.prod(new[start:end]) == units:
                return tuple(range(start, end))
    return None
