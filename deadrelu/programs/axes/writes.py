"""Tensors that are made empty and written slice by slice: their axes are learnt from what is written."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.call import Call
from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, either, has, resized


@dataclass(frozen=True, eq=False)
class _Slice:
    """How a view came out of a tensor: by which operator, along which dimensions."""

    base: Tensor
    name: str
    dims: tuple[int, ...]


class Slices:
    """The views that were taken of tensors of which nothing is known."""

    def __init__(self) -> None:
        """No view yet."""
        self._slices: MutableMapping[Tensor, _Slice] = WeakTensorKeyDictionary()

    def note(self, call: Call) -> None:
        """Remember a view, if this call gives out one that can be followed back."""
        base = call.source
        match call.name:
            case "slice" | "narrow" | "select":
                dims: tuple[Any, ...] = (call.get("dim", default=0) % base.ndim,)
            case "transpose":
                dims = (call.get("dim0") % base.ndim, call.get("dim1") % base.ndim)
            case _:
                return
        self._slices[call.out] = _Slice(base, call.name, dims)

    def written(self, view: Tensor, layout: Layout, tell: Callable[[Tensor, Layout], None]) -> None:
        """A view now has this layout: `tell` what that makes of the tensors that it is a view of."""
        while (piece := self._slices.get(view)) is not None:
            layout = layout.with_axes(_of_base(piece, layout))
            view = piece.base
            tell(view, layout)


def _of_base(piece: _Slice, layout: Layout) -> list[Axis]:
    """The axes of a tensor, from those of its view."""
    axes, dim = list(layout.axes), piece.dims[0]
    size = piece.base.shape[dim]
    if piece.name == "transpose":
        other = piece.dims[1]
        axes[dim], axes[other] = axes[other], axes[dim]
    elif piece.name == "select":
        is_one_unit = not any(has(axis, role) for axis in axes for role in (Role.FEATURE, Role.OPEN))
        axes.insert(dim, (either(size) if is_one_unit else Atom(size, Role.PLACE),))
    else:
        axes[dim] = resized(axes[dim], size)
    return axes
