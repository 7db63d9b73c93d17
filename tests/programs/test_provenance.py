"""Where features go when a tensor is reshaped: by following one-hot features through torch itself."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deadrelu.programs.provenance import _carried, _reshaped

Sizes = st.lists(st.integers(2, 4), min_size=2, max_size=4)


def feature_numbers(shape: tuple[int, ...], axis: int) -> Tensor:
    """A tensor in which each entry is the number of its feature."""
    view = [1] * len(shape)
    view[axis] = shape[axis]
    return torch.arange(shape[axis]).view(view).expand(shape)


def is_read_off(x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether the indices along `axes` alone tell which feature an entry belongs to."""
    moved = x.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)
    return bool((moved.flatten(1) == moved.flatten(1)[:, :1]).all())


@given(Sizes, st.data())
def test_a_permutation_carries_the_feature_axis(sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(sizes) - 1))
    order = data.draw(st.permutations(range(len(sizes))))
    x = feature_numbers(tuple(sizes), axis)
    out = x.permute(order)
    axes = _carried("permute", (x, list(order)), x, (axis,), out)
    assert len(axes) == 1
    assert is_read_off(out, axes)


@given(Sizes, st.data())
def test_a_reshape_carries_the_feature_axis_or_says_that_it_is_lost(sizes: list[int], data: st.DataObject) -> None:
    """Any cut of the flattened shape; where axes come back, they tell the features apart."""
    axis = data.draw(st.integers(1, len(sizes) - 1))
    x = feature_numbers(tuple(sizes), axis)
    target: list[int] = []
    for size in sizes:
        if data.draw(st.booleans()) and target:
            target[-1] *= size
        elif size == 4 and data.draw(st.booleans()):
            target += [2, 2]
        else:
            target.append(size)
    out = x.reshape(target)
    axes = _reshaped(tuple(sizes), (axis,), tuple(target))
    assert not axes or is_read_off(out, axes)


@given(Sizes, st.data())
def test_a_split_and_a_merge_give_the_axis_back(sizes: list[int], data: st.DataObject) -> None:
    """The channel shuffle: (N, g·c, …) to (N, g, c, …), transposed, and merged again."""
    groups, each = data.draw(st.integers(2, 3)), data.draw(st.integers(2, 3))
    shape = (sizes[0], groups * each, *sizes[1:])
    split = (sizes[0], groups, each, *sizes[1:])
    axes = _reshaped(shape, (1,), split)
    assert axes == (1, 2)
    assert _reshaped(split, axes, shape) == (1,)


def test_features_that_mix_with_the_samples_are_lost() -> None:
    assert _reshaped((4, 64, 8, 8), (1,), (256, 8, 8)) == ()
    assert _reshaped((1, 64, 8, 8), (1,), (64, 8, 8)) == (0,)


def test_a_flattened_map_has_a_feature_for_each_channel_and_pixel() -> None:
    assert _reshaped((4, 64, 7, 7), (1,), (4, 3136)) == (1,)


def test_reductions_select_and_stack_move_the_axis() -> None:
    x = torch.zeros(2, 3, 4, 5)
    assert _carried("mean", (x, [2, 3]), x, (1,), x.mean((2, 3))) == (1,)
    assert _carried("mean", (x, [2, 3], True), x, (1,), x.mean((2, 3), keepdim=True)) == (1,)
    assert _carried("mean", (x, [1]), x, (1,), x.mean(1)) == ()
    assert _carried("select", (x, 1, 0), x, (3,), x.select(1, 0)) == (2,)
    assert _carried("stack", ([x, x], 0), x, (1,), torch.stack([x, x], 0)) == (2,)
    assert _carried("add", (x, x), x, (1,), x + x) == (1,)
    assert _carried("mul", (x[0], x), x[0], (0,), x[0] * x) == (1,)
