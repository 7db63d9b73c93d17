"""The axis rules of what reshapes, slices, concatenates, resizes or reduces a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deadrelu.programs.axes.layout import (
    Atom,
    Axis,
    Layout,
    Role,
    ambiguous,
    blend,
    has,
    reshape_axes,
    resize_axis,
    unknown_layout,
)
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.pointwise import broadcast
from deadrelu.programs.pytree import tensor_leaves


def keep(call: OperatorCall) -> list[Layout | None]:
    """Every output has the axes of the input, perhaps of another size: slices, pads, pools, flips, cumulative sums."""
    x, layout = call.source, call.layout
    return [_resized(layout, x, out) for out in call.outputs]


def reshape(call: OperatorCall) -> list[Layout | None]:
    """The elements in the same order under another shape."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    return [layout.with_axes(reshape_axes(layout.axes, x.shape, out.shape)) for out in call.outputs]


def unsqueeze(call: OperatorCall) -> Layout | None:
    """A new axis of size 1."""
    layout = call.layout
    if layout is None:
        return None
    dim = call.get("dim", default=0) % (len(layout.axes) + 1)
    return layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim:]))


def squeeze(call: OperatorCall) -> Layout | None:
    """Axes of size 1 removed; where a single feature was on one, a single unit is left."""
    layout = call.layout
    if layout is None:
        return None
    sizes = [math.prod(atom.size for atom in axis) for axis in layout.axes]  # in place, `x` has its new shape already
    given = call.get("dim", default=range(len(sizes)))
    chosen = {dim % len(sizes) for dim in ([given] if isinstance(given, int) else given)}
    return layout.with_axes(axis for d, axis in enumerate(layout.axes) if d not in chosen or sizes[d] != 1)


def transpose(call: OperatorCall) -> Layout | None:
    """Two axes swapped: the last two where none are named."""
    x, layout = call.source, call.layout
    if layout is None or x.ndim < 2:
        return layout
    a, b = call.get("dim0", "axis0", default=-2), call.get("dim1", "axis1", default=-1)
    axes = list(layout.axes)
    axes[a], axes[b] = axes[b], axes[a]
    return layout.with_axes(axes)


def permute(call: OperatorCall) -> Layout | None:
    """The axes in another order."""
    x, layout = call.source, call.layout
    return layout and layout.with_axes(layout.axes[d] for d in call.dims("dims", of=x, every=True))


def expand(call: OperatorCall) -> Layout | None:
    """An axis of size 1 is repeated; new ones come in front."""
    return broadcast([(call.source.shape, layout)], (), call.out.shape) if (layout := call.layout) else None


def repeat(call: OperatorCall) -> Layout | None:
    """The tensor repeated along each axis: each copy of a feature is a feature."""
    x, layout = call.source, call.layout
    if layout is None:
        return None
    ahead = call.out.ndim - x.ndim
    old = ((),) * ahead + layout.axes
    sizes = (1,) * ahead + tuple(x.shape)
    axes = [
        axis
        if there == size
        else (Atom(there, Role.FEATURE),)
        if has(axis, Role.FEATURE)
        else (*_positions(there // size if size else 0), *axis)
        for axis, size, there in zip(old, sizes, call.out.shape, strict=True)
    ]
    return layout.with_axes(axes)


def repeat_interleave(call: OperatorCall) -> Layout | None:
    """Each index of an axis repeated in a row."""
    x, layout = call.source, call.layout
    if layout is None or x is not call.get("self"):
        return None
    axes, shape = layout.axes, tuple(x.shape)
    if call.get("dim") is None:
        axes, shape = reshape_axes(axes, shape, (x.numel(),)), (x.numel(),)
    dim = call.dims("dim", of=x)[0] if call.get("dim") is not None else 0
    times, rest = divmod(call.out.shape[dim], max(shape[dim], 1))
    even = isinstance(call.get("repeats"), int) and not rest and not has(axes[dim], Role.FEATURE)
    changed = (*axes[dim], *_positions(times)) if even else (blend(axes[dim], call.out.shape[dim]),)
    return layout.with_axes(changed if d == dim else axis for d, axis in enumerate(axes))


def select(call: OperatorCall) -> list[Layout | None]:
    """One index of an axis, or each of them as a tensor of its own: the axis is gone."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    dim = call.get("dim", default=0) % x.ndim
    return [layout.with_axes(axis for d, axis in enumerate(layout.axes) if d != dim) for _ in call.outputs]


def diagonal(call: OperatorCall) -> Layout | None:
    """The entries at which two axes have the same index, on a new last axis."""
    x, layout = call.source, call.layout
    if layout is None:
        return None
    pair = [call.get(name, default=d) % x.ndim for d, name in enumerate(("dim1", "dim2"))]
    rest = [axis for d, axis in enumerate(layout.axes) if d not in pair]
    size = call.out.shape[-1]
    return layout.with_axes((*rest, (blend([atom for d in pair for atom in layout.axes[d]], size),)))


def concatenate(call: OperatorCall) -> Layout | None:
    """Tensors side by side along an axis. Where each is one index, that may be a unit of several, or a time step."""
    out = call.out
    dim = call.get("dim", default=0) % out.ndim
    parts = [x for x in tensor_leaves(call.get("tensors")) if x.ndim == out.ndim]
    return _side_by_side(call, parts, [call.known(x) for x in parts], dim)


def stack(call: OperatorCall) -> Layout | None:
    """Tensors side by side along a new axis."""
    out = call.out
    dim = call.get("dim", default=0) % out.ndim
    parts = list(tensor_leaves(call.get("tensors")))
    known = [call.known(x) for x in parts]
    opened_up = [layout and layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim:])) for layout in known]
    return _side_by_side(call, [x.unsqueeze(dim) for x in parts], opened_up, dim)


def _side_by_side(
    call: OperatorCall, parts: Sequence[Tensor], layouts: Sequence[Layout | None], dim: int
) -> Layout | None:
    size = call.out.shape[dim]
    lines = [layout.axes[dim] for layout in layouts if layout is not None]
    others = [
        ((*x.shape[:dim], 1, *x.shape[dim + 1 :]), layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim + 1 :])))
        for x, layout in zip(parts, layouts, strict=True)
        if layout is not None
    ]
    beside = broadcast(others, (), (*call.out.shape[:dim], 1, *call.out.shape[dim + 1 :]))
    if beside is None:
        return None
    line: Axis = (blend([atom for axis in lines for atom in axis], size),)
    if all(has(axis, Role.SAMPLE) and len(axis) == 1 for axis in lines) and len(lines) == len(parts):
        samples = lines[0][0].size
        line = (
            (*_positions(size // samples), lines[0][0])
            if samples and size == samples * len(lines)
            else _positions(size)
        )
    elif not any(has(axis, Role.FEATURE) for axis in lines) and all(math.prod(a.size for a in x) == 1 for x in lines):
        is_one_unit = not any(has(axis, role) for axis in beside.axes for role in (Role.FEATURE, Role.OPEN))
        line = (ambiguous(size) if is_one_unit else Atom(size, Role.POSITION),)
    return beside.with_axes(line if d == dim else axis for d, axis in enumerate(beside.axes))


def reduce(call: OperatorCall) -> list[Layout | None]:
    """Axes reduced away, with or without an axis of size 1 left in their place."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    gone = set(call.dims("dim", "dims", "axis", of=x, every=True))
    out = []
    for result in call.outputs:
        if result.ndim == x.ndim:
            axes = [_alone(axis) if d in gone else axis for d, axis in enumerate(layout.axes)]
        else:
            axes = [axis for d, axis in enumerate(layout.axes) if d not in gone]
        index = not result.is_floating_point() and not result.dtype.is_complex and call.name not in ("any", "all")
        out.append(replace(layout, axes=tuple(axes), is_data_index=index) if len(axes) == result.ndim else None)
    return out


def unfold(call: OperatorCall) -> Layout | None:
    """`x.unfold(dim, size, step)`: windows along an axis, their content on a new last axis."""
    x, layout = call.source, call.layout
    if layout is None:
        return None
    dim = call.get("dimension", default=0) % x.ndim
    axes = [resize_axis(axis, call.out.shape[d]) if d == dim else axis for d, axis in enumerate(layout.axes)]
    return layout.with_axes((*axes, (blend(layout.axes[dim], call.out.shape[-1]),)))


def pool(call: OperatorCall) -> list[Layout | None]:
    """Pooling and resampling of maps: the last axes are positions."""
    layout = call.layout
    if layout is not None:
        for axis in layout.axes[2:]:
            for atom in axis:
                atom.mark(Role.POSITION)
    return keep(call)


def pixel_shuffle(call: OperatorCall) -> Layout | None:
    """Pixel shuffle and unshuffle: channels on the third axis from the end."""
    layout, out = call.layout, call.out
    if layout is None:
        return None
    channels = blend(layout.axes[-3], out.shape[-3])
    lead = layout.axes[:-3]
    return layout.with_axes((*lead, (channels,), *(_positions(size) for size in out.shape[-2:])))


def im2col(call: OperatorCall) -> Layout | None:
    """`im2col`: `(N, C, H, W)` to `(N, C·k·k, L)`. A feature at another position of the patch is another feature."""
    layout, out = call.layout, call.out
    if layout is None or len(layout.axes) < 3:
        return None
    channels = layout.axes[-3]
    # A single feature, or a single unit where the features were reduced away and no other axis may hold any.
    is_made = any(has(a, Role.FEATURE) for a in layout.axes) or (
        layout.after is not None and not any(has(a, Role.OPEN) for a in layout.axes)
    )
    is_single = math.prod(atom.size for atom in channels) == 1 and is_made
    line = Atom(out.shape[-2], Role.FEATURE) if is_single else blend(channels, out.shape[-2])
    return layout.with_axes((*layout.axes[:-3], (line,), _positions(out.shape[-1])))


def col2im(call: OperatorCall) -> Layout | None:
    """`col2im`: `(N, C·k·k, L)` to `(N, C, H, W)`."""
    layout, out = call.layout, call.out
    if layout is None:
        return None
    return layout.with_axes(
        (*layout.axes[:-2], (blend(layout.axes[-2], out.shape[-3]),), *map(_positions, out.shape[-2:]))
    )


def grid_sample(call: OperatorCall) -> Layout | None:
    """`grid_sample`: samples and channels of the input, positions of the grid."""
    layout, out = call.layout, call.out
    return layout and layout.with_axes((*layout.axes[:2], *(_positions(size) for size in out.shape[2:])))


def pack_sequence(call: OperatorCall) -> list[Layout | None]:
    """A padded batch of sequences as one axis of tokens."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    tokens = (Atom(call.out.shape[0], Role.POSITION),)
    made = layout.with_axes((tokens, *layout.axes[2:]))
    return [made if out.ndim == x.ndim - 1 and out.is_floating_point() else None for out in call.outputs]


def pad_sequence(call: OperatorCall) -> list[Layout | None]:
    """One axis of tokens as a padded batch of sequences."""
    layout = call.layout
    if layout is None:
        return [None for _ in call.outputs]
    lead = tuple(_positions(size) for size in call.out.shape[:2])
    made = layout.with_axes((*lead, *layout.axes[1:]))
    return [made if len(made.axes) == out.ndim else None for out in call.outputs]


def _alone(axis: Axis) -> Axis:
    """A reduced axis that is kept with size 1: a single feature, if it held features."""
    return (Atom(1, Role.FEATURE),) if has(axis, Role.FEATURE) else ()


def _resized(layout: Layout | None, x: Tensor, out: Tensor) -> Layout | None:
    if layout is None:
        return None
    if out.ndim != x.ndim:
        return unknown_layout(out.shape, is_lost=True)
    return layout.with_axes(resize_axis(axis, size) for axis, size in zip(layout.axes, out.shape, strict=True))


def _positions(size: int) -> Axis:
    return (Atom(size, Role.POSITION),) if size > 1 else ()
