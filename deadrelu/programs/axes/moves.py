"""The axes of what moves, cuts, joins or resizes a tensor, and of what reduces axes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deadrelu.programs.axes.call import Call, tensors_in
from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, blend, either, has, opened, regrouped, resized
from deadrelu.programs.axes.pointwise import merged


def kept(call: Call) -> list[Layout | None]:
    """Every output has the axes of the input, some in another size: slices, pads, pools, flips, sums along an axis."""
    x, layout = call.source, call.layout
    return [_like(layout, x, out) for out in call.outputs]


def reshaped(call: Call) -> list[Layout | None]:
    """The elements in the same order under another shape."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    return [layout.with_axes(regrouped(layout.axes, x.shape, out.shape)) for out in call.outputs]


def unsqueezed(call: Call) -> Layout | None:
    """A new axis of size 1."""
    layout = call.layout
    if layout is None:
        return None
    dim = call.get("dim", default=0) % (len(layout.axes) + 1)
    return layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim:]))


def squeezed(call: Call) -> Layout | None:
    """Axes of size 1 taken away; a feature that stood there alone leaves a single unit."""
    layout = call.layout
    if layout is None:
        return None
    sizes = [math.prod(atom.size for atom in axis) for axis in layout.axes]  # in place, the tensor has changed already
    given = call.get("dim", default=range(len(sizes)))
    chosen = {dim % len(sizes) for dim in ([given] if isinstance(given, int) else given)}
    return layout.with_axes(axis for d, axis in enumerate(layout.axes) if d not in chosen or sizes[d] != 1)


def transposed(call: Call) -> Layout | None:
    """Two axes change places: the last two where none are named."""
    x, layout = call.source, call.layout
    if layout is None or x.ndim < 2:
        return layout
    a, b = call.get("dim0", "axis0", default=-2), call.get("dim1", "axis1", default=-1)
    axes = list(layout.axes)
    axes[a], axes[b] = axes[b], axes[a]
    return layout.with_axes(axes)


def permuted(call: Call) -> Layout | None:
    """The axes in another order."""
    x, layout = call.source, call.layout
    return layout and layout.with_axes(layout.axes[d] for d in call.dims("dims", of=x, every=True))


def expanded(call: Call) -> Layout | None:
    """An axis of size 1 is repeated; new ones come in front."""
    return merged([(call.source.shape, layout)], (), call.out.shape) if (layout := call.layout) else None


def repeated(call: Call) -> Layout | None:
    """The tensor several times along each axis: each copy of a feature is a feature."""
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
        else (*_places(there // size if size else 0), *axis)
        for axis, size, there in zip(old, sizes, call.out.shape, strict=True)
    ]
    return layout.with_axes(axes)


def repeated_in_place(call: Call) -> Layout | None:
    """Each index of an axis several times in a row."""
    x, layout = call.source, call.layout
    if layout is None or x is not call.get("self"):
        return None
    axes, shape = layout.axes, tuple(x.shape)
    if call.get("dim") is None:
        axes, shape = regrouped(axes, shape, (x.numel(),)), (x.numel(),)
    dim = call.dims("dim", of=x)[0] if call.get("dim") is not None else 0
    times, rest = divmod(call.out.shape[dim], max(shape[dim], 1))
    even = isinstance(call.get("repeats"), int) and not rest and not has(axes[dim], Role.FEATURE)
    changed = (*axes[dim], *_places(times)) if even else (blend(axes[dim], call.out.shape[dim]),)
    return layout.with_axes(changed if d == dim else axis for d, axis in enumerate(axes))


def selected(call: Call) -> list[Layout | None]:
    """One index of an axis, or each of them as a tensor: the axis is gone."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    dim = call.get("dim", default=0) % x.ndim
    return [layout.with_axes(axis for d, axis in enumerate(layout.axes) if d != dim) for _ in call.outputs]


def diagonal(call: Call) -> Layout | None:
    """The entries at which two axes have the same index, on a new last axis."""
    x, layout = call.source, call.layout
    if layout is None:
        return None
    pair = [call.get(name, default=d) % x.ndim for d, name in enumerate(("dim1", "dim2"))]
    rest = [axis for d, axis in enumerate(layout.axes) if d not in pair]
    size = call.out.shape[-1]
    return layout.with_axes((*rest, (blend([atom for d in pair for atom in layout.axes[d]], size),)))


def joined(call: Call) -> Layout | None:
    """Tensors side by side along an axis. Where each is a single unit, it may be one of several now, or a time step."""
    out = call.out
    dim = call.get("dim", default=0) % out.ndim
    parts = [x for x in tensors_in([call.get("tensors")]) if x.ndim == out.ndim]
    return _joined(call, parts, [call.known(x) for x in parts], dim)


def stacked(call: Call) -> Layout | None:
    """Tensors side by side along a new axis."""
    out = call.out
    dim = call.get("dim", default=0) % out.ndim
    parts = list(tensors_in([call.get("tensors")]))
    known = [call.known(x) for x in parts]
    opened_up = [layout and layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim:])) for layout in known]
    return _joined(call, [x.unsqueeze(dim) for x in parts], opened_up, dim)


def _joined(call: Call, parts: Sequence[Tensor], layouts: Sequence[Layout | None], dim: int) -> Layout | None:
    size = call.out.shape[dim]
    lines = [layout.axes[dim] for layout in layouts if layout is not None]
    others = [
        ((*x.shape[:dim], 1, *x.shape[dim + 1 :]), layout.with_axes((*layout.axes[:dim], (), *layout.axes[dim + 1 :])))
        for x, layout in zip(parts, layouts, strict=True)
        if layout is not None
    ]
    beside = merged(others, (), (*call.out.shape[:dim], 1, *call.out.shape[dim + 1 :]))
    if beside is None:
        return None
    line: Axis = (blend([atom for axis in lines for atom in axis], size),)
    if all(has(axis, Role.SAMPLE) and len(axis) == 1 for axis in lines) and len(lines) == len(parts):
        samples = lines[0][0].size
        line = (*_places(size // samples), lines[0][0]) if samples and size == samples * len(lines) else _places(size)
    elif not any(has(axis, Role.FEATURE) for axis in lines) and all(math.prod(a.size for a in x) == 1 for x in lines):
        is_one_unit = not any(has(axis, role) for axis in beside.axes for role in (Role.FEATURE, Role.OPEN))
        line = (either(size) if is_one_unit else Atom(size, Role.PLACE),)
    return beside.with_axes(line if d == dim else axis for d, axis in enumerate(beside.axes))


def reduced(call: Call) -> list[Layout | None]:
    """Axes summed, averaged, normed or searched away, with or without an axis of size 1 in their place."""
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


def windows(call: Call) -> Layout | None:
    """`x.unfold(dim, size, step)`: windows along an axis, their content on a new last one."""
    x, layout = call.source, call.layout
    if layout is None:
        return None
    dim = call.get("dimension", default=0) % x.ndim
    axes = [resized(axis, call.out.shape[d]) if d == dim else axis for d, axis in enumerate(layout.axes)]
    return layout.with_axes((*axes, (blend(layout.axes[dim], call.out.shape[-1]),)))


def pooled(call: Call) -> list[Layout | None]:
    """Pooling and resampling of maps: the last axes are places of the same features."""
    layout = call.layout
    if layout is not None:
        for axis in layout.axes[2:]:
            for atom in axis:
                atom.tell(Role.PLACE)
    return kept(call)


def shuffled(call: Call) -> Layout | None:
    """Pixel shuffle and unshuffle: channels on the third axis from the end."""
    layout, out = call.layout, call.out
    if layout is None:
        return None
    channels = blend(layout.axes[-3], out.shape[-3])
    lead = layout.axes[:-3]
    return layout.with_axes((*lead, (channels,), *(_places(size) for size in out.shape[-2:])))


def patches(call: Call) -> Layout | None:
    """`im2col`: `(N, C, H, W)` to `(N, C·k·k, L)`. A feature at another place of the patch is another feature."""
    layout, out = call.layout, call.out
    if layout is None or len(layout.axes) < 3:
        return None
    channels = layout.axes[-3]
    # Of one feature; or of one unit, where the features were reduced away and nothing else may hold any.
    is_made = any(has(a, Role.FEATURE) for a in layout.axes) or (
        layout.after is not None and not any(has(a, Role.OPEN) for a in layout.axes)
    )
    is_single = math.prod(atom.size for atom in channels) == 1 and is_made
    line = Atom(out.shape[-2], Role.FEATURE) if is_single else blend(channels, out.shape[-2])
    return layout.with_axes((*layout.axes[:-3], (line,), _places(out.shape[-1])))


def put_together(call: Call) -> Layout | None:
    """`col2im`: `(N, C·k·k, L)` to `(N, C, H, W)`."""
    layout, out = call.layout, call.out
    if layout is None:
        return None
    return layout.with_axes(
        (*layout.axes[:-2], (blend(layout.axes[-2], out.shape[-3]),), *map(_places, out.shape[-2:]))
    )


def sampled(call: Call) -> Layout | None:
    """`grid_sample`: samples and channels of the input, places of the grid."""
    layout, out = call.layout, call.out
    return layout and layout.with_axes((*layout.axes[:2], *(_places(size) for size in out.shape[2:])))


def packed(call: Call) -> list[Layout | None]:
    """A padded batch of sequences as one row of tokens."""
    x, layout = call.source, call.layout
    if layout is None:
        return [None for _ in call.outputs]
    tokens = (Atom(call.out.shape[0], Role.PLACE),)
    made = layout.with_axes((tokens, *layout.axes[2:]))
    return [made if out.ndim == x.ndim - 1 and out.is_floating_point() else None for out in call.outputs]


def unpacked(call: Call) -> list[Layout | None]:
    """A row of tokens as a padded batch of sequences."""
    layout = call.layout
    if layout is None:
        return [None for _ in call.outputs]
    lead = tuple(_places(size) for size in call.out.shape[:2])
    made = layout.with_axes((*lead, *layout.axes[1:]))
    return [made if len(made.axes) == out.ndim else None for out in call.outputs]


def _alone(axis: Axis) -> Axis:
    """What stands for a reduced axis that is kept with size 1: a single feature, if it held features."""
    return (Atom(1, Role.FEATURE),) if has(axis, Role.FEATURE) else ()


def _like(layout: Layout | None, x: Tensor, out: Tensor) -> Layout | None:
    if layout is None:
        return None
    if out.ndim != x.ndim:
        return opened(out.shape, is_lost=True)
    return layout.with_axes(resized(axis, size) for axis, size in zip(layout.axes, out.shape, strict=True))


def _places(size: int) -> Axis:
    return (Atom(size, Role.PLACE),) if size > 1 else ()
