"""Which dimensions of a tensor are its features, and which layer made them: followed from operator to operator.

A convolution or batch norm puts its features on dimension 1; a matrix product, layer norm or embedding on the last.
Everything else carries them along: element by element, through a reshape, a permutation, a reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.modes import Operators
from deadrelu.programs.program import Features

_FIRST = ("convolution", "conv1d", "conv2d", "conv3d", "conv_transpose", "batch_norm", "group_norm", "instance_norm")
_LAST = (
    "addmm", "mm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "matmul", "linear", "embedding", "embedding_bag",
    "layer_norm", "rms_norm", "bilinear", "lstm", "gru", "rnn", "scaled_dot_product",
)  # fmt: skip
_RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze")


@dataclass(frozen=True)
class Tag:
    """What is known of a tensor: its feature dimensions, counted from the front, and which layer made them."""

    axes: tuple[int, ...]
    after: str | None


def makes_features(name: str) -> bool:
    """Whether operator `name` (without namespace and overload) makes the features of what it gives out."""
    return any(_makes(name))


@cache
def _makes(name: str) -> tuple[bool, bool]:
    """Whether the operator puts features on dimension 1, and whether it puts them on the last."""
    bare = name
    for library in ("native_", "_native_", "cudnn_", "miopen_"):
        bare = bare.removeprefix(library)
    return any(key in bare for key in _FIRST), bare.strip("_").startswith(_LAST)


class Provenance:
    """The tags of the tensors that are alive."""

    def __init__(self) -> None:
        self._tags: MutableMapping[Tensor, Tag] = WeakTensorKeyDictionary()

    def follow(self, name: str, args: Sequence[Any], output: Any, layer: Callable[[], str | None]) -> None:
        """Tag what operator `name` (without namespace and overload) made of `args`.

        `layer` gives the path of the layer at work; it is asked only where features are made, since it walks the stack.
        """
        for out in _tensors([output]):
            if (out.is_floating_point() or out.is_quantized) and out.layout == torch.strided and not out.is_nested:
                tag = self._tag_of(name, args, out, layer)
                if tag is not None:
                    self._tags[out] = tag

    def features(self, z: Tensor) -> tuple[Features, str | None]:
        """The feature dimensions of a pre-activation, and the path of the layer that made them.

        Without a tag the number of dimensions decides: 1 for images and volumes, the last for everything flatter.
        Features on the last dimension are counted from the end, so that they hold for any number of positions before.
        """
        tag = self._known(z)
        if tag is None:
            return Features((1,) if z.ndim > 3 else (-1,), certain=z.ndim < 3), None
        axes = tag.axes
        return Features(tuple(a - z.ndim for a in axes) if axes[-1] == z.ndim - 1 and axes[0] > 0 else axes), tag.after

    def _known(self, x: Tensor) -> Tag | None:
        """The tag of a tensor, unless it has lost dimensions since (`squeeze_`, the end of a torch.func transform)."""
        tag = self._tags.get(x)
        return None if tag is None or tag.axes[-1] >= x.ndim else tag

    def _tag_of(self, name: str, args: Sequence[Any], out: Tensor, layer: Callable[[], str | None]) -> Tag | None:
        """The tag of one output; None if nothing is known of it."""
        if out.ndim == 0:
            return None
        inputs = ((x, tag) for x in _tensors(args) if (tag := self._known(x)) is not None)
        on_first, on_last = _makes(name)
        if on_first:  # what else it gives out has one dimension: means and variances
            return Tag((1,), layer()) if out.ndim > 1 else None
        if on_last:
            normed = args[1] if "norm" in name and len(args) > 1 else ()
            if isinstance(normed, (list, tuple)) and len(normed) > 1 and (first := next(inputs, None)):
                return first[1]  # a norm over (C, H, W) says nothing of which of them is the feature
            return Tag((out.ndim - 1,), layer())
        for x, tag in inputs:
            axes = _carried(name, args, x, tag.axes, out)
            if axes:
                return Tag(axes, tag.after)
        return None


def following(provenance: Provenance, layer: Callable[[], str | None]) -> Operators:
    """A mode under which every operator is followed; `layer` gives the path of the layer at work."""

    def handle(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = function(*args, **kwargs)
        provenance.follow(function.overloadpacket.__name__, args, output, layer)
        return output

    return Operators(handle)


def _tensors(values: Any) -> Iterable[Tensor]:
    """Every tensor among the arguments, also inside lists (`cat`, `stack`)."""
    for value in values if isinstance(values, (list, tuple)) else ():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _carried(name: str, args: Sequence[Any], x: Tensor, axes: tuple[int, ...], out: Tensor) -> tuple[int, ...]:
    """Where the feature dimensions `axes` of `x` stand in `out`; empty if they are lost."""
    base = name.rstrip("_") if name != "_unsafe_view" else name
    if base in ("t", "transpose", "swapaxes", "adjoint"):
        a, b = (args[1] % x.ndim, args[2] % x.ndim) if len(args) > 2 else (x.ndim - 2, x.ndim - 1)
        return tuple(sorted({a: b, b: a}.get(axis, axis) for axis in axes))
    if base == "permute":
        order = [dim % x.ndim for dim in args[1]]
        return tuple(sorted(order.index(axis) for axis in axes))
    if base in ("select", "unbind"):
        dim = (args[1] if len(args) > 1 else 0) % x.ndim
        return () if dim in axes else tuple(axis - (axis > dim) for axis in axes)
    if base == "stack":
        dim = (args[1] if len(args) > 1 else 0) % out.ndim
        return tuple(axis + (axis >= dim) for axis in axes)
    if base in _RESHAPES:
        return _reshaped(tuple(x.shape), axes, tuple(out.shape))
    if out.ndim < x.ndim:  # a reduction that drops the dimensions it reduces
        dims = next((arg for arg in args[1:] if type(arg) in (int, list, tuple)), None)
        if dims is None:
            return ()
        gone = {dim % x.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
        if len(gone) != x.ndim - out.ndim or gone & set(axes):
            return ()
        return tuple(axis - sum(dim < axis for dim in gone) for axis in axes)
    if out.ndim > x.ndim:  # broadcast from the right
        axes = tuple(axis + out.ndim - x.ndim for axis in axes)
    if base in ("cat", "concat", "slice", "narrow", "split", "split_with_sizes", "chunk", "index_select"):
        return axes
    return axes if all(out.shape[a] == x.shape[a - out.ndim + x.ndim] for a in axes) else ()


def _reshaped(old: tuple[int, ...], axes: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    """Where feature dimensions stand after a reshape from `old` to `new`.

    The two shapes are walked in step and cut into the smallest groups with equal numbers of elements. A group that
    holds features passes them on to all its new dimensions, unless the samples (dimension 0) are mixed in.
    """
    found: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = i, j
        a = b = 1
        while True:
            if a <= b and i < len(old) and (a < b or i == first):
                a, i = a * old[i], i + 1
            elif j < len(new) and (b < a or j == second):
                b, j = b * new[j], j + 1
            else:
                break
        group = range(first, i)
        if any(axis in group for axis in axes):
            if max(old[axis] for axis in axes if axis in group) == 1 and any(old[dim] > 1 for dim in group):
                return ()
            if 0 in group and len(group) > 1 and any(old[dim] > 1 for dim in group if dim not in axes):
                return ()
            found += [dim for dim in range(second, j) if new[dim] > 1 or j - second == 1]
        if a != b:
            return ()
    return tuple(found)
