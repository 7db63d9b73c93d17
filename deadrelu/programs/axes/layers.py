"""The axis rules of layers, which make features: matrix products, convolutions, norms, embeddings, recurrence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from deadrelu.programs.axes.layout import WEIGHT, Atom, Axis, Layout, Role, demote, has
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.pointwise import broadcast


def matrix_product(call: OperatorCall) -> Layout | None:
    """`(…, m, k) @ (…, k, p)`, also of vectors and unbatched matrices."""
    a, b = call.get("mat1", "batch1", "self", "input"), call.get("mat2", "batch2", "vec", "other", "tensor", "vec2")
    if call.name == "addmv":
        a = call.get("mat")
    if call.out.ndim == 0:
        return None
    left, right = call.known(a), call.known(b)
    if left is not None and (right is None or right.is_weight) and not left.is_weight:
        return _by_weight(call, left, b)
    if right is not None and (left is None or left.is_weight) and not right.is_weight:
        return _weighted(call, a, right, b)
    if left is None or right is None:
        return _of_constants(call, a, b)
    return _of_activations(left, right, a, b, call.out)


def _of_constants(call: OperatorCall, a: Tensor, b: Tensor) -> Layout:
    """Of weights alone: a weight, or the features of a learnt query that has not met the data yet."""
    axes = [*((),) * (call.out.ndim - 1), (Atom(call.out.shape[-1], Role.FEATURE),)]
    is_weight = all(call.is_weight(x) for x in (a, b))
    return Layout(_shaped(axes, call.out), call.layer(), is_weight=is_weight)


def _by_weight(call: OperatorCall, left: Layout, weight: Tensor) -> Layout:
    """Activations times a weight: features on the last axis. A constant that mixes positions makes none."""
    inner = left.axis(-1)
    lead = left.axes[:-1]
    if not _is_layer(call, left, inner, weight):
        return left.with_axes(_shaped((*lead, (Atom(call.out.shape[-1], Role.POSITION),)), call.out))
    _read(inner)
    kept = [demote(axis) for axis in lead]
    if weight.ndim == 3 and kept and weight.shape[0] > 1 and weight.stride(0) != 0 and not has(lead[0], Role.SAMPLE):
        kept[0] = (Atom(weight.shape[0], Role.FEATURE),)  # an ensemble: each member has units of its own
    made = () if weight.ndim == 1 else ((Atom(call.out.shape[-1], Role.FEATURE),),)
    return Layout(_shaped((*kept, *made), call.out), call.layer())


def _weighted(call: OperatorCall, weight: Tensor, right: Layout, b: Tensor) -> Layout:
    """A weight on the left, `W @ x`: features on the rows if it reads features; an adjacency mixes positions."""
    dim = max(b.ndim - 2, 0)
    inner = right.axis(dim)
    batch, last = right.axes[:dim], right.axes[dim + 1 :]
    rows: tuple[Axis, ...] = () if weight.ndim == 1 else ((Atom(weight.shape[-2], Role.POSITION),),)
    reads = any(has(inner, role) for role in (Role.FEATURE, Role.RANK))
    if reads or right.is_lost or (has(inner, Role.OPEN) and call.is_weight(weight)):
        _read(inner)
        rows = tuple((Atom(axis[0].size, Role.FEATURE),) for axis in rows)
        axes = (*(demote(axis) for axis in batch), *rows, *(demote(axis) for axis in last))
        return Layout(_shaped(axes, call.out), call.layer())
    return right.with_axes(_shaped((*batch, *rows, *last), call.out))


def _is_layer(call: OperatorCall, left: Layout, inner: Axis, weight: Tensor) -> bool:
    """Whether a product with a constant is a layer: it has trained weights or a bias, or it reads features."""
    is_trained = call.is_weight(weight) or call.name in ("addmm", "baddbmm")
    return is_trained or left.is_lost or any(has(inner, role) for role in (Role.FEATURE, Role.OPEN, Role.RANK))


def _of_activations(left: Layout, right: Layout, a: Tensor, b: Tensor, out: Tensor) -> Layout:
    """Two activations (attention, a graph's adjacency): each keeps its own axis, and no features are made."""
    rows = (left.axes[-2],) if a.ndim > 1 else ()
    columns = (right.axes[-1],) if b.ndim > 1 else ()
    batch = [
        x if any(has(x, role) for role in (Role.FEATURE, Role.SAMPLE)) else y
        for x, y in zip(left.axes[:-2], right.axes[:-2], strict=False)
    ]
    leader = left if left.after is not None else right
    is_lost = left.is_lost or right.is_lost
    return Layout(_shaped((*batch, *rows, *columns), out), leader.after, is_lost=is_lost)


def linear(call: OperatorCall) -> Layout | None:
    """A linear layer as one operator: features on the last axis."""
    return _made_on(call, call.out.ndim - 1)


def attention(call: OperatorCall) -> list[Layout | None]:
    """Scaled dot product attention `(N, H, T, D)`: samples, heads and queries of the query, features of the value."""
    query, value = call.known(call.get("query")), call.known(call.get("value"))
    if query is None or value is None or query is WEIGHT:
        return [linear(call), *(None for _ in call.outputs[1:])]
    axes = (*query.axes[:-1], value.axes[-1])
    made = Layout(_shaped(axes, call.out), value.after)
    return [made, *(None for _ in call.outputs[1:])]


def convolution(call: OperatorCall) -> Layout:
    """Features on axis 1; samples stay samples; all else is positions."""
    layout, out = call.layout, call.out
    dim = min(1, out.ndim - 1)
    made: Axis = (Atom(out.shape[dim], Role.FEATURE),)
    if layout is None:
        return Layout(_shaped([made if d == dim else () for d in range(out.ndim)], out), call.layer())
    channels = layout.axis(dim)
    _read(channels)
    outer = demote(layout.axis(0)) if dim else ()
    for axis in layout.axes[dim + 1 :]:
        demote(axis)
    samples = [atom for atom in channels if atom.role is Role.SAMPLE]
    if samples and out.shape[dim] % math.prod(a.size for a in samples) == 0:  # one group of filters per sample
        rest = out.shape[dim] // math.prod(a.size for a in samples)
        made = (*samples, Atom(rest, Role.FEATURE))
    axes = [outer, made] if dim else [made]
    return Layout(_shaped([*axes, *((),) * (out.ndim - len(axes))], out), call.layer())


def channel_norm(call: OperatorCall) -> list[Layout | None]:
    """Batch, group and instance norm: features on axis 1. Their other outputs are statistics."""
    out = call.out
    return [_normed(call, (min(1, out.ndim - 1),)), *(None for _ in call.outputs[1:])]


def layer_norm(call: OperatorCall) -> list[Layout | None]:
    """Features on the last axis. A norm over several axes, such as (C, H, W), does not show which holds them."""
    out = call.out
    over = len(call.get("normalized_shape", default=(0,)))
    made = _normed(call, (out.ndim - 1,)) if over == 1 else call.layout
    return [made, *(None for _ in call.outputs[1:])]


def _normed(call: OperatorCall, dims: Sequence[int]) -> Layout:
    """A norm that scales each index of `dims` on its own: these are features."""
    layout = call.layout
    if layout is None:
        return _made_on(call, dims[0])
    axis = layout.axis(dims[0])
    _read(axis)
    if has(axis, Role.FEATURE):
        for other in range(len(layout.axes)):
            if other != dims[0] and not has(layout.axes[other], Role.FEATURE):
                demote(layout.axes[other])
        return replace(layout, after=call.layer(), is_lost=False, is_weight=False)
    scaled = tuple(a if a.role is Role.SAMPLE else Atom(a.size, Role.FEATURE) for a in axis)
    if all(a.role is Role.SAMPLE for a in scaled):
        scaled = (*scaled, Atom(call.out.shape[dims[0]] // math.prod(a.size for a in scaled), Role.FEATURE))
    axes = [scaled if d == dims[0] else demote(kept) for d, kept in enumerate(layout.axes)]
    return Layout(tuple(axes), call.layer())


def embedding(call: OperatorCall) -> Layout:
    """A row of features for each index."""
    indices = call.known(call.get("indices"))
    lead = tuple(demote(axis) for axis in indices.axes) if indices else ((),) * (call.out.ndim - 1)
    if call.out.ndim - 1 != len(lead):
        lead = lead[: call.out.ndim - 1]
    made = (Atom(call.out.shape[-1], Role.FEATURE),)
    is_weight = indices is None and call.is_weight(call.get("weight"))
    return Layout(_shaped((*lead, made), call.out), call.layer(), is_weight=is_weight)


def recurrent(call: OperatorCall) -> list[Layout | None]:
    """An LSTM, GRU or RNN, or its cell, as one operator: features on the last axis of every output."""
    return [_made_on(call, out.ndim - 1, out) if out.ndim and out.is_floating_point() else None for out in call.outputs]


def _made_on(call: OperatorCall, dim: int, out: Tensor | None = None) -> Layout:
    """New features on one axis; on the others, samples stay where the input has them."""
    out = call.out if out is None else out
    layout = call.layout
    axes: list[Axis] = [()] * out.ndim
    if layout is not None:
        _read(layout.axis(-1) if dim == out.ndim - 1 else layout.axis(dim))
        if len(layout.axes) == out.ndim:
            axes = [demote(axis) if d != dim else () for d, axis in enumerate(layout.axes)]
    axes[dim] = (Atom(out.shape[dim], Role.FEATURE),)
    return Layout(_shaped(axes, out), call.layer())


def cdist(call: OperatorCall) -> Layout | None:
    """`cdist` and the like: row by row, like a product with the transposed second matrix."""
    a, b = call.get("x1"), call.get("x2")
    left, right = call.known(a), call.known(b)
    if left is not None and right is None:
        return _by_weight(call, left, b.transpose(-1, -2))
    if left is not None and right is not None:
        batch = broadcast(
            [(a.shape[:-2], left.with_axes(left.axes[:-2])), (b.shape[:-2], right.with_axes(right.axes[:-2]))],
            (),
            call.out.shape[:-2],
        )
        return left.with_axes(_shaped((*(batch.axes if batch else ()), left.axes[-2], right.axes[-2]), call.out))
    return None


def _read(axis: Axis) -> None:
    """Record that an axis is read as features. With several open atoms in it, any of them may be positions."""
    unknown = [atom for atom in axis if atom.role is Role.OPEN]
    if len(unknown) == 1:
        unknown[0].mark(Role.FEATURE)


def _shaped(axes: Sequence[Axis], out: Tensor) -> tuple[Axis, ...]:
    """The axes where they have the sizes of the output; new positions where they do not."""
    padded = [*axes, *((),) * (out.ndim - len(axes))]
    return tuple(
        axis if math.prod(atom.size for atom in axis) == size else (Atom(size, Role.POSITION),)
        for axis, size in zip(padded, out.shape, strict=False)
    )
