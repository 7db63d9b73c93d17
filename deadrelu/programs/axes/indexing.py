"""The axis rules of indexing, sorting and scattering."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, blend, demote, has
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.pointwise import broadcast


def index(call: OperatorCall) -> Layout | None:
    """`x[…, idx, …]` with index tensors, by torch's rules for where the picked axes go."""
    layout = call.layout
    if layout is None:
        return _looked_up(call, call.get("indices", default=()))
    at, groups = 0, list[tuple[int, int, Tensor | None]]()
    for index in call.get("indices", default=()):
        width = index.ndim if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) else 1
        groups.append((at, at + width, index))
        at += width
    picks = [(start, end, index) for start, end, index in groups if index is not None]
    if not picks:
        return layout
    picked = {dim for start, end, _ in picks for dim in range(start, end)}
    rest = [axis for d, axis in enumerate(layout.axes) if d not in picked]
    count = call.out.ndim - len(rest)
    is_run = picked == set(range(min(picked), max(picked) + 1))
    place = min(picked) if is_run else 0
    sizes = call.out.shape[place : place + count]
    made = [_picked(call, layout, picks, sizes, dim) for dim in range(count)]
    return layout.with_axes((*rest[:place], *made, *rest[place:]))


def _picked(
    call: OperatorCall, layout: Layout, picks: Sequence[tuple[int, int, Tensor]], sizes: Sequence[int], dim: int
) -> Axis:
    """One axis of the broadcast indices."""
    size = sizes[dim]
    if size == 1:
        return ()
    reading = [(start, end, i) for start, end, i in picks if _varies(i, dim - len(sizes), size)]
    atoms = [atom for start, end, _ in reading for axis in layout.axes[start:end] for atom in axis]
    from_data = any(_is_from_data(call, index) for _, _, index in reading)
    if not any(atom.role is Role.FEATURE for atom in atoms):
        return (_among(atoms, size, from_data=from_data) if len(picks) == 1 else Atom(size, Role.POSITION),)
    if any(atom.role is Role.SAMPLE for atom in atoms):
        return (Atom(size, Role.POSITION),)  # one pick a row: x[arange(N), labels]
    by_row = any(index.ndim > 1 and len(picks) > 1 for _, _, index in reading)
    return (Atom(size, Role.RANK if by_row or from_data else Role.FEATURE),)


def _looked_up(call: OperatorCall, indices: Sequence[Tensor | None]) -> Layout | None:
    """Rows of a table of weights, one for each index, as in an embedding: a codebook, a learnt position."""
    table, out = call.get("self"), call.out
    picks = [index for index in indices if index is not None]
    known = [(tuple(index.shape), layout) for index in picks if (layout := call.known(index)) is not None]
    is_mask = any(index.dtype in (torch.bool, torch.uint8) for index in picks)
    if is_mask or not call.is_weight(table) or table.ndim - len(picks) != 1 or None in indices[: len(picks)]:
        return None
    rows = broadcast(known, (), tuple(out.shape[:-1]))
    if rows is None:
        return None
    return Layout((*map(demote, rows.axes), (Atom(out.shape[-1], Role.FEATURE),)), call.layer())


def _varies(index: Tensor, dim: int, size: int) -> bool:
    """Whether an index tensor differs along this dimension (from the end) of the broadcast indices."""
    if index.dtype in (torch.bool, torch.uint8):
        return dim == -1
    return index.ndim >= -dim and index.shape[dim] == size


def _is_from_data(call: OperatorCall, index: Tensor) -> bool:
    """Whether an index depends on activations and may pick other features in the next batch."""
    layout = call.known(index)
    return layout is not None and (layout.is_data_index or index.dtype is torch.bool)


def index_select(call: OperatorCall) -> Layout | None:
    """`index_select`: the entries of one axis that a vector names."""
    x, layout = call.get("self"), call.layout
    dim, index = call.dims("dim", of=x)[0], call.get("index")
    if layout is None:
        return _looked_up(call, [index]) if dim == 0 else None
    from_data = _is_from_data(call, index)
    atom = _among(layout.axes[dim], call.out.shape[dim], from_data=from_data)
    if atom.role is Role.FEATURE and from_data:
        atom = Atom(atom.size, Role.RANK)
    return layout.with_axes((atom,) if d == dim else axis for d, axis in enumerate(layout.axes))


def gather(call: OperatorCall) -> Layout | None:
    """`gather`: along one axis another index for each row, so picked features are not units."""
    x, layout = call.get("self"), call.layout
    if layout is None:
        return None
    dim = call.dims("dim", of=x)[0]
    axes = [
        axis if x.shape[d] == call.out.shape[d] else (blend(axis, call.out.shape[d]),)
        for d, axis in enumerate(layout.axes)
    ]
    return layout.with_axes(
        (_ranked(layout.axes[dim], call.out.shape[dim]),) if d == dim else a for d, a in enumerate(axes)
    )


def sort(call: OperatorCall) -> list[Layout | None]:
    """`sort`, `topk` and the like: an axis of features becomes one of ranks, in values and indices."""
    x, layout = call.source, call.layout
    if layout is None or x.ndim == 0:
        return [None for _ in call.outputs]
    dim = call.get("dim", default=0 if call.name == "msort" else -1) % x.ndim
    out: list[Layout | None] = []
    for result in call.outputs:
        line = (_ranked(layout.axes[dim], result.shape[dim]),)
        axes = tuple(line if d == dim else axis for d, axis in enumerate(layout.axes))
        out.append(Layout(axes, layout.after, layout.is_lost, is_data_index=not result.is_floating_point()))
    return out


def nonzero(call: OperatorCall) -> Layout | None:
    """`nonzero` and the like: indices that depend on activations."""
    if not any(call.known(x) is not None for x in call.tensors()):
        return None
    return Layout(tuple((Atom(size, Role.POSITION),) for size in call.out.shape), is_data_index=True)


def scatter(call: OperatorCall) -> Layout | None:
    """Values written at indices of one axis (`scatter`, `index_add`): the axes of the target, else of the values."""
    target = call.get("self")
    if (layout := call.known(target)) is not None:
        return layout
    values = call.get("src", "source", "value", "tensor")
    known = call.known(values)
    if known is None or values.ndim != target.ndim:
        return None
    dim = call.dims("dim", of=target)[0]
    axes = [
        (Atom(size, Role.OPEN),) if d == dim and _is_unclear(axis) else axis if fits else (blend(axis, size),)
        for d, (axis, size) in enumerate(zip(known.axes, target.shape, strict=True))
        for fits in [math.prod(a.size for a in axis) == size]
    ]
    return known.with_axes(axes)


def index_put(call: OperatorCall) -> Layout | None:
    """`x[idx, …] = values`: the axes of `x`; where it is unknown, those of the values after the indices."""
    target = call.get("self")
    if (layout := call.known(target)) is not None:
        return layout
    values, indices = call.get("values"), call.get("indices", default=())
    known = call.known(values)
    if known is None:
        return None
    taken = 0
    for index in indices:
        is_mask = isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
        taken += index.ndim if is_mask else 1
    axes: list[Axis] = [(Atom(size, Role.OPEN),) for size in target.shape]
    for back in range(1, target.ndim - taken + 1):
        if back <= len(known.axes) and values.shape[-back] == target.shape[-back]:
            axes[-back] = known.axes[-back]
    return known.with_axes(axes)


def slice_scatter(call: OperatorCall) -> Layout | None:
    """A tensor with one slice replaced (`slice_scatter`): the axes of the tensor."""
    return call.known(call.get("self")) or call.known(call.get("src"))


def _among(atoms: Sequence[Atom], size: int, *, from_data: bool) -> Atom:
    """An axis of picked entries. Data that picks samples may pick all in one batch and few in the next."""
    atom = blend(atoms, size)
    return Atom(size, Role.POSITION) if from_data and atom.role is Role.SAMPLE else atom


def _ranked(axis: Axis, size: int) -> Atom:
    if any(has(axis, role) for role in (Role.FEATURE, Role.OPEN, Role.RANK)):
        return Atom(size, Role.RANK)
    return Atom(size, Role.POSITION)


def _is_unclear(axis: Axis) -> bool:
    return has(axis, Role.FEATURE) or has(axis, Role.RANK) or has(axis, Role.OPEN)
