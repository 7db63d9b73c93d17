"""The axes of elementwise operators: operands are aligned from the right, and features win."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deadrelu.programs.axes.layout import Atom, Axis, Layout, Role, ambiguous, has
from deadrelu.programs.axes.operator_call import OperatorCall

Sizes = Sequence[int]


def pointwise(call: OperatorCall) -> Layout | None:
    """An elementwise operator, with broadcasting."""
    operands = [(tuple(x.shape), layout) for x in call.tensors() if (layout := call.known(x)) is not None]
    others = [x for x in call.tensors() if call.known(x) is None]
    weights = [tuple(x.shape) for x in others if call.is_weight(x)]
    constants = [tuple(x.shape) for x in others if not call.is_weight(x)]
    return broadcast(operands, weights, tuple(call.out.shape), constants)


def broadcast(
    operands: Sequence[tuple[Sizes, Layout]],
    weights: Sequence[Sizes],
    shape: Sizes,
    constants: Sequence[Sizes] = (),
) -> Layout | None:
    """The layout of a broadcast result of this shape from operands `(shape, layout)`; None where all are unknown.

    `weights` are the shapes of parameters among the operands: an axis that only they have holds features if no other
    does (`x[:, None] * w`). Beside an open axis it may hold some or all of the features, and so may an axis of a
    constant (`x[..., None] - grid`).
    """
    operands = [(sizes, layout) for sizes, layout in operands if len(sizes) <= len(shape)]
    if not operands:
        return None
    aligned = [(_aligned(sizes, layout, shape), layout) for sizes, layout in operands]
    if any(_disagree(a, b) for n, (a, _) in enumerate(aligned) for b, _ in aligned[:n]):
        axes = _contested([axes for axes, _ in aligned], shape)
    else:
        axes = [_strongest([axes[dim] for axes, _ in aligned], shape[dim]) for dim in range(len(shape))]
        _tell([axes for axes, _ in aligned], axes)
        if not _features(axes):
            beside_open = any(has(axis, Role.OPEN) for axis in axes)
            axes = [
                axis or _brought(weights, constants, dim - len(shape), size, beside_open=beside_open)
                for dim, (axis, size) in enumerate(zip(axes, shape, strict=True))
            ]
    leader = next((layout for _, layout in operands if layout.features), operands[0][1])
    return replace(
        leader,
        axes=tuple(axis or _positions(size) for axis, size in zip(axes, shape, strict=True)),
        is_lost=all(layout.is_lost for _, layout in operands) and not leader.features,
        is_weight=all(layout.is_weight for _, layout in operands),
        is_data_index=any(layout.is_data_index for _, layout in operands),
    )


def _aligned(sizes: Sizes, layout: Layout, shape: Sizes) -> list[Axis]:
    """The axes of an operand at each dimension of the result; () where it is broadcast."""
    ahead = len(shape) - len(sizes)
    return [
        layout.axes[dim - ahead] if dim >= ahead and sizes[dim - ahead] == size else ()
        for dim, size in enumerate(shape)
    ]


def _disagree(a: Sequence[Axis], b: Sequence[Axis]) -> bool:
    """Whether both operands have features, but one has positions where the other has its features."""
    mine, other = _features(a), _features(b)
    clash = [d for d in mine ^ other if (b if d in mine else a)[d] and not has((b if d in mine else a)[d], Role.OPEN)]
    return bool(mine and other and clash)


def _features(axes: Sequence[Axis]) -> set[int]:
    return {d for d, axis in enumerate(axes) if any(a.role is Role.FEATURE and a.size > 1 for a in axis)}


def _strongest(axes: Sequence[Axis], size: int) -> Axis:
    """Of the operands' axes at one dimension, the one that says most."""
    for role in (Role.RANK, Role.FEATURE, Role.SAMPLE, Role.POSITION, Role.OPEN):
        found = next((axis for axis in axes if has(axis, role)), None)
        if found is not None:
            return found
    return _positions(size) if any(axes) else ()


def _tell(operands: Sequence[Sequence[Axis]], result: Sequence[Axis]) -> None:
    """Pass knowledge between operands: an open axis that meets features is features too."""
    if not _features(result):
        return
    for axes in operands:
        for axis, known in zip(axes, result, strict=True):
            role = Role.FEATURE if has(known, Role.FEATURE) else Role.POSITION
            if axis is not known and len(axis) == 1:
                axis[0].mark(role)


def _contested(operands: Sequence[Sequence[Axis]], shape: Sizes) -> list[Axis]:
    """Axes of operands whose features are on different axes: these are open, and those of the first are the hint."""
    disputed = set[int]().union(*(_features(axes) for axes in operands))
    first = next(features for axes in operands if (features := _features(axes)))
    out = []
    for dim, size in enumerate(shape):
        axis = _strongest([axes[dim] for axes in operands], size)
        out.append((Atom(size, Role.OPEN, is_hint=dim in first),) if dim in disputed else axis)
    return out


def _brought(weights: Sequence[Sizes], constants: Sequence[Sizes], dim: int, size: int, *, beside_open: bool) -> Axis:
    """An axis (counted from the end) that no activation has, where there are no features."""
    if _is_in(weights, dim, size):
        return (ambiguous(size) if beside_open else Atom(size, Role.FEATURE),)
    if _is_in(constants, dim, size):
        return (Atom(size, Role.OPEN) if beside_open else ambiguous(size),)
    return ()


def _is_in(operands: Sequence[Sizes], dim: int, size: int) -> bool:
    return size > 1 and any(len(sizes) >= -dim and sizes[dim] == size for sizes in operands)


def _positions(size: int) -> Axis:
    return (Atom(size, Role.POSITION),) if size > 1 else ()
