"""Bounds of every value of a tape over a box of inputs, by intervals, rounded outward.

The bounds are computed in float64 and widened by what the float32 pass of the model can round: no pass whose inputs lie
in the box has a value outside of them, whichever order its kernels sum in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadrelu.certify import affine, shapes
from deadrelu.certify.tape import INPUT, Node, Ref, Tape

_TINY = 1e-36
"""Beside relative errors: what float32 loses where it underflows."""


@dataclass(frozen=True)
class Interval:
    """Bounds of a value, entry by entry, in float64. `error` is what of them is for rounding in its own operator."""

    low: Tensor
    high: Tensor
    error: Tensor

    @property
    def centre(self) -> Tensor:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def spread(self) -> Tensor:
        """Half of the width, rounded up."""
        return (self.high - self.low) / 2 * (1 + 1e-15)

    @property
    def size(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def within(self, low: Tensor, high: Tensor) -> Interval:
        """The part that is within other bounds of the same value."""
        return Interval(torch.maximum(self.low, low), torch.minimum(self.high, high), self.error)


@dataclass
class Bounds:
    """The bounds of the values of a tape, by number; `unknown` says of each other value why it has none."""

    known: dict[int, Interval] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)

    def add(self, node: Node, box: Mapping[int, tuple[Tensor, Tensor]]) -> Interval | None:
        """Bound one value from those before it; None, with the reason, where that is not known how to do."""
        if node.operator == INPUT:
            low, high = (end.double() for end in box[node.number])
            self.known[node.number] = Interval(low, high, torch.zeros_like(low))
            return self.known[node.number]
        why = node.obstacle or next((self.unknown[p] for p in node.parents if p in self.unknown), "")
        try:
            found = None if why else _bound(node, self.known)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            # an operator in a form that its rule does not know: without a bound nothing is claimed
            found, why = None, f"no bound for this form of {node.operator}: {str(error).splitlines()[0]}"
        if found is None or bool(torch.isnan(found.low).any() | torch.isnan(found.high).any()):
            self.unknown[node.number] = why or f"no bound for {node.operator}"
            return None
        self.known[node.number] = found
        return found


def bounds_of(tape: Tape, box: Mapping[int, tuple[Tensor, Tensor]]) -> Bounds:
    """The bounds of every value, by intervals alone."""
    bounds = Bounds()
    for node in tape.nodes:
        bounds.add(node, box)
    return bounds


def unit_roundoff(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding."""
    return torch.finfo(dtype).eps / 2 if dtype.is_floating_point else 0.0


def _bound(node: Node, known: Mapping[int, Interval]) -> Interval | None:
    """The bounds of one value; None for an operator that is not known."""
    if affine.is_affine(node):
        return _of_affine(node, known)
    if shapes.is_curve(node):
        of = known[node.parents[0]]
        low, high = shapes.range_of(node, of.low, of.high)
        error = torch.zeros_like(low) if node.operator == "relu" else 4 * unit_roundoff(node.dtype) * _size(low, high)
        return Interval(low - error, high + error, error)
    rule = _RULES.get(node.operator)
    found = rule(node, known) if rule is not None and not node.dtype.is_complex else None
    if found is None:
        return None
    low, high = found
    size = _size(low, high)
    slack = 64 * unit_roundoff(node.dtype) * size.where(size.isfinite(), 0) * math.sqrt(max(low.numel(), 1)) + _TINY
    return Interval(low - slack, high + slack, slack)


def _of_affine(node: Node, known: Mapping[int, Interval]) -> Interval:
    """Centre and radius of an affine operator, and its rounding: of n terms, γₙ times the sum of their sizes."""
    parents = {number: known[number] for number in node.parents}
    middle = affine.apply(node, {number: each.centre for number, each in parents.items()})
    spread = affine.radius(node, {number: each.spread for number, each in parents.items()})
    error = rounding(node, known)
    spread = spread * (1 + 1e-12) + error + 1e-14 * middle.abs()
    return Interval(middle - spread, middle + spread, error)


def rounding(node: Node, known: Mapping[int, Interval]) -> Tensor:
    """How far the model's own arithmetic can take an affine value from the exact one."""
    sizes = {number: known[number].size for number in node.parents}
    n = affine.terms(node, sizes)
    if not n:
        return torch.zeros(node.shape, dtype=torch.float64, device=next(iter(sizes.values())).device)
    at_zero = affine.apply(node, {number: torch.zeros_like(size) for number, size in sizes.items()})
    u = n * unit_roundoff(node.dtype)
    gamma = u / (1 - u) if u < 0.5 else math.inf
    return 2 * gamma * (affine.radius(node, sizes) + affine.constant_size(node, at_zero)) + _TINY


def _size(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(low.abs(), high.abs())


def _pooled(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of a largest value: the largest of the lower and of the upper bounds."""
    if node.pick not in (None, 0):
        return None
    [parent] = node.parents
    low, high = (node.run({parent: end}) for end in (known[parent].low, known[parent].high))
    return low, high


def _product(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of two values that both depend on the input, multiplied entry by entry or as matrices."""
    if not all(isinstance(arg, Ref) for arg in node.args[:2]) or len(node.args) > 2:
        return None
    first, second = (known[arg.number] for arg in node.args[:2])
    if node.operator == "mul":
        corners = [a * b for a in (first.low, first.high) for b in (second.low, second.high)]
        stacked = torch.stack(torch.broadcast_tensors(*corners))
        return stacked.amin(0), stacked.amax(0)
    middle = first.centre @ second.centre
    spread = first.centre.abs() @ second.spread + first.spread @ (second.centre.abs() + second.spread)
    return middle - spread, middle + spread


def _quotient(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of a value by one that is never 0."""
    if node.kwargs.get("rounding_mode") is not None or not isinstance(node.args[1], Ref):
        return None
    below = known[node.args[1].number]
    if not bool(((below.low > 0) | (below.high < 0)).all()):
        return None
    above = node.args[0]
    if isinstance(above, Ref):
        ends: tuple[Tensor, Tensor] = known[above.number].low, known[above.number].high
    else:
        value = torch.as_tensor(above, dtype=torch.float64)
        ends = value, value
    stacked = torch.stack(torch.broadcast_tensors(*(a / b for a in ends for b in (below.low, below.high))))
    return stacked.amin(0), stacked.amax(0)


def _softmax(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of a softmax: each entry at its bound, the others at their opposite ones."""
    of, dim = known[node.parents[0]], int(node.args[1])
    top = of.high.amax(dim, keepdim=True)
    low, high = (of.low - top).exp(), (of.high - top).exp()
    all_low, all_high = low.sum(dim, keepdim=True), high.sum(dim, keepdim=True)
    least = low / (low + (all_high - high)).clamp(min=_TINY)
    most = high / (high + (all_low - low)).clamp(min=_TINY)
    return least.clamp(0, 1), most.clamp(0, 1)


def _normalised(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of a layer or group norm: of n normalised values none is larger in size than the root of n.

    Torch computes x·r − m·r with r = 1 / sqrt(v + eps), so what it rounds grows with x.
    """
    if node.pick not in (None, 0):
        return None
    if node.operator == "native_layer_norm":
        shape = [int(size) for size in node.args[1]]
        weight, bias = node.args[2:4]
        n, view = math.prod(shape), tuple(shape)
    else:
        weight, bias, channels = node.args[1], node.args[2], int(node.shape[1])
        n = math.prod(node.shape[1:]) // int(node.args[6])
        view = (channels,) + (1,) * (len(node.shape) - 2)
    if any(isinstance(each, Ref) for each in (weight, bias)):
        return None
    of = known[node.parents[0]]
    eps = float(node.args[4] if node.operator == "native_layer_norm" else node.args[7])
    if not eps > 0:
        return None
    limit = math.sqrt(n) + of.size.amax() * (8 * unit_roundoff(node.dtype) / math.sqrt(eps)) + torch.zeros_like(of.low)
    spread = limit if weight is None else limit * weight.double().abs().view(view)
    middle = torch.zeros_like(of.low) if bias is None else torch.zeros_like(of.low) + bias.double().view(view)
    return middle - spread, middle + spread


def _attention(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of attention: a mean of the values, with weights that are not negative and sum to 1."""
    if node.pick not in (None, 0) or not isinstance(node.args[2], Ref):
        return None
    of = known[node.args[2].number]
    low, high = of.low.amin(-2, keepdim=True), of.high.amax(-2, keepdim=True)
    return low.expand(node.shape).clone(), high.expand(node.shape).clone()


def _embedded(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of an embedding: the range of the rows that an index can name."""
    weight, index = node.args[:2]
    if not isinstance(weight, Tensor) or not isinstance(index, Ref):
        return None
    of = known[index.number]
    table = weight.double()
    ends = [
        (table[int(low) : int(high) + 1].amin(0), table[int(low) : int(high) + 1].amax(0))
        for low, high in zip(of.low.flatten().tolist(), of.high.flatten().tolist(), strict=True)
    ]
    low, high = (torch.stack([end[place] for end in ends]).view(node.shape) for place in (0, 1))
    return low, high


def _larger(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of the larger, or the smaller, of two values."""
    ends = [
        (known[arg.number].low, known[arg.number].high) if isinstance(arg, Ref) else (arg.double(), arg.double())
        for arg in node.args[:2]
    ]
    pick = torch.maximum if node.operator == "maximum" else torch.minimum
    return pick(ends[0][0], ends[1][0]), pick(ends[0][1], ends[1][1])


def _chosen(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
    """Of a choice between values by a mask that does not depend on the input."""
    mask, first, second = node.args if node.operator == "where" else (node.args[1], node.args[2], node.args[0])
    if not isinstance(mask, Tensor):
        return None

    def ends(arg: object) -> tuple[Tensor, Tensor]:
        if isinstance(arg, Ref):
            return known[arg.number].low, known[arg.number].high
        value = torch.as_tensor(arg, dtype=torch.float64)
        return value, value

    one, other = ends(first), ends(second)
    return torch.where(mask, one[0], other[0]), torch.where(mask, one[1], other[1])


def _rising(function: Callable[[Tensor], Tensor], least: float) -> Callable[..., tuple[Tensor, Tensor] | None]:
    """The rule for a function that rises, or falls, everywhere above `least`."""

    def rule(node: Node, known: Mapping[int, Interval]) -> tuple[Tensor, Tensor] | None:
        of = known[node.parents[0]]
        if not bool((of.low > least).all()):
            return None
        ends = function(of.low), function(of.high)
        return torch.minimum(*ends), torch.maximum(*ends)

    return rule


_RULES: dict[str, Callable[[Node, Mapping[int, Interval]], tuple[Tensor, Tensor] | None]] = {
    **dict.fromkeys(("max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices", "amax", "amin"), _pooled),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool3d"), _pooled),
    **dict.fromkeys(("mul", "mm", "bmm"), _product),
    **dict.fromkeys(("maximum", "minimum"), _larger),
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), _normalised),
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_attention_math",
        ),
        _attention,
    ),
    "div": _quotient,
    "where": _chosen,
    "masked_fill": _chosen,
    "_softmax": _softmax,
    "embedding": _embedded,
    "log": _rising(torch.log, 0.0),
    "sqrt": _rising(torch.sqrt, 0.0),
    "rsqrt": _rising(torch.rsqrt, 0.0),
    "reciprocal": _rising(torch.reciprocal, 0.0),
}
