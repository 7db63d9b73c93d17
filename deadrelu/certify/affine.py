"""Operators that are affine in what depends on the input: their radius, and how many terms a result is summed of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from deadrelu.certify.tape import Node, Ref

MOVING = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "numpy_T", "expand"),
        *("squeeze", "unsqueeze", "select", "slice", "split", "split_with_sizes", "unbind", "chunk", "narrow"),
        *("flatten", "unfold", "cat", "stack", "clone", "alias", "detach", "contiguous", "_to_copy", "lift_fresh"),
        *("flip", "roll", "repeat", "index_select", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "movedim"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "diagonal", "im2col", "tril", "triu"),
        *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "constant_pad_nd"),
    }
)
"""Each result is one entry of an input, or 0."""

_AVERAGES = frozenset(
    {
        *("mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "cumsum", "upsample_linear1d", "upsample_bilinear2d"),
        *("upsample_trilinear3d",),
    }
)
"""Sums with coefficients that are not negative."""

NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"})
_PRODUCTS = frozenset({"mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv", "addbmm"})
CONVOLUTIONS = ("convolution", "_convolution")
"""Both have the same arguments."""

_OF_NORM = 16
"""Roundings of a batch norm, and more than torch makes."""


def is_affine(node: Node) -> bool:
    """Whether the value is affine in those it is made of; for what reads two of them, only sums are."""
    refs = _refs(node)
    match node.operator:
        case name if name in MOVING or name in _AVERAGES:
            return node.dtype.is_floating_point
        case "add" | "sub" | "rsub" | "neg" | "negative":
            return True
        case "mul":
            return sum(refs) == 1
        case "div":
            return refs == [True, False] and node.kwargs.get("rounding_mode") is None
        case "convolution" | "_convolution":
            return refs[:3] == [True, False, False]
        case name if name in _PRODUCTS:
            return sum(refs) == 1 and (len(refs) < 3 or not refs[0] or not any(refs[1:]))
        case name if name in NORMS:
            return _is_frozen(node) and refs[0] and sum(refs) == 1 and node.pick == 0
    return False


def apply(node: Node, values: Mapping[int, Tensor]) -> Tensor:
    """The value in float64."""
    if node.operator in NORMS:
        scale, shift = _scale_and_shift(node)
        [parent] = node.parents
        return values[parent] * scale + shift
    return node.run(values, torch.float64)


def radius(node: Node, values: Mapping[int, Tensor]) -> Tensor:
    """How far the value can be from that at the centre, where each parent is within these radii of its own."""
    name = node.operator
    if name in NORMS:
        [parent] = node.parents
        return values[parent] * _scale_and_shift(node)[0].abs()
    if name in ("neg", "negative"):
        return values[node.parents[0]]
    if name in ("add", "sub", "rsub"):
        first, second = (values[arg.number] if isinstance(arg, Ref) else None for arg in node.args[:2])
        alpha = abs(float(node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)))
        parts = (first, None if second is None else second * alpha)
        if name == "rsub":
            parts = (None if first is None else first * alpha, second)
        present = [part for part in parts if part is not None]
        return sum(present[1:], present[0]).expand(node.shape)
    return _with(node, lambda leaf: leaf.abs() if name in (*_PRODUCTS, *CONVOLUTIONS, "mul", "div") else leaf * 0).run(
        values, torch.float64
    )


def _with(node: Node, constant: Callable[[Tensor], Tensor]) -> Node:
    """The same call with other constants, and without the bias that a product adds."""
    args = list(node.args)
    if node.operator in CONVOLUTIONS:
        args[2] = None
    elif node.operator in ("addmm", "baddbmm", "addmv", "addbmm") and isinstance(args[0], Tensor):
        args[0] = args[0] * 0
    if node.operator in ("mul", "div"):
        args = [abs(arg) if isinstance(arg, (int, float)) else arg for arg in args]
    if node.operator == "constant_pad_nd" and len(args) > 2:
        args[2] = 0

    def changed(leaf: Any) -> Any:
        return constant(leaf) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    changed_args = tree_map(changed, tuple(args), is_leaf=lambda leaf: isinstance(leaf, Ref))
    kwargs = {key: abs(value) if key in ("alpha", "beta") else value for key, value in node.kwargs.items()}
    return replace(node, args=changed_args, kwargs=kwargs)


def constant_size(node: Node, at_zero: Tensor) -> Tensor:
    """The size of the constants that are summed into the value, which is `at_zero` where all parents are 0."""
    if node.operator not in NORMS:
        return at_zero.abs()
    mean, bias = node.args[3].double(), node.args[2]
    scale, shift = _scale_and_shift(node)
    size = (mean * scale.flatten()).abs() + (0 if bias is None else bias.double().abs())
    return torch.as_tensor(size).view(shift.shape).expand(node.shape)


def terms(node: Node, values: Mapping[int, Tensor]) -> int:
    """How many roundings at most are in the value as the model computes it."""
    name = node.operator
    if name in NORMS:
        return _OF_NORM
    if name in CONVOLUTIONS:
        weight = node.args[1]
        return int(weight.shape.numel()) // int(weight.shape[1] if node.args[6] else weight.shape[0]) + 2
    if name in _PRODUCTS:
        left = node.args[0] if name in ("mm", "bmm", "mv", "dot") else node.args[1]
        return int((values[left.number] if isinstance(left, Ref) else left).shape[-1]) + 3
    if name in _AVERAGES:
        return max(values[parent].numel() for parent in node.parents) + 2
    return 0 if name in MOVING and name != "_to_copy" else 2


def _refs(node: Node) -> list[bool]:
    """Which positional arguments depend on the input."""
    return [isinstance(arg, Ref) for arg in node.args]


def _is_frozen(node: Node) -> bool:
    """Whether a batch norm uses its running statistics."""
    if node.operator == "_native_batch_norm_legit_no_training":
        return True
    return node.args[5] is False


def _scale_and_shift(node: Node) -> tuple[Tensor, Tensor]:
    """A batch norm as scale and shift by channel."""
    mean, var = (each.double() for each in node.args[3:5])
    weight, bias = (None if each is None else each.double() for each in node.args[1:3])
    scale = torch.rsqrt(var + float(node.args[-1]))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    across = (1, -1) + (1,) * (len(node.shape) - 2)
    return scale.view(across), shift.view(across)
