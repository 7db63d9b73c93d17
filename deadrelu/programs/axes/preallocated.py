"""Tensors that are allocated empty and written slice by slice: their axes are those of what is written."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, ambiguous, has, resize_axis
from deadrelu.programs.axes.operator_call import OperatorCall


@dataclass(frozen=True, eq=False)
class _Slice:
    """How a view was made: of which tensor, by which operator, along which dimensions."""

    base: Tensor
    name: str
    dims: tuple[int, ...]


class Slices:
    """The views of tensors whose layout is unknown."""

    def __init__(self) -> None:
        """Start without views."""
        self._slices: MutableMapping[Tensor, _Slice] = WeakTensorKeyDictionary()

    def add(self, call: OperatorCall) -> None:
        """Record the view that this call makes, if it can be traced back."""
        base = call.source
        match call.name:
            case "slice" | "narrow" | "select":
                dims: tuple[Any, ...] = (call.get("dim", default=0) % base.ndim,)
            case "transpose":
                dims = (call.get("dim0") % base.ndim, call.get("dim1") % base.ndim)
            case _:
                return
        self._slices[call.out] = _Slice(base, call.name, dims)

    def write(self, view: Tensor, layout: Layout, learn: Callable[[Tensor, Layout], None]) -> None:
        """Call `learn` with each tensor under a view that was just written, and its layout."""
        while (piece := self._slices.get(view)) is not None:
            layout = layout.with_axes(_of_base(piece, layout))
            view = piece.base
            learn(view, layout)


def _of_base(piece: _Slice, layout: Layout) -> list[Axis]:
    """The axes of a tensor, from those of its view."""
    axes, dim = list(layout.axes), piece.dims[0]
    size = piece.base.shape[dim]
    if piece.name == "transpose":
        other = piece.dims[1]
        axes[dim], axes[other] = axes[other], axes[dim]
    elif piece.name == "select":
        is_one_unit = not any(has(axis, role) for axis in axes for role in (Role.FEATURE, Role.OPEN))
        axes.insert(dim, (ambiguous(size) if is_one_unit else Atom(size, Role.POSITION),))
    else:
        axes[dim] = resize_axis(axes[dim], size)
    return axes
