"""Operators that are curved: the range of each over a range of its input, and straight lines above and below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.certify.tape import Node, Ref

_RISING = frozenset(
    {
        *("sigmoid", "special_expit", "tanh", "selu", "softplus", "log_sigmoid_forward", "exp", "erf", "atan", "expm1"),
        *("hardsigmoid", "softshrink", "hardshrink", "floor", "ceil", "round", "sign", "celu", "elu"),
    }
)
"""Functions that nowhere fall, for every value of their parameters that torch allows (ELU: alpha not below 0)."""

_LOWEST = {"silu": -1.2784645427610738, "mish": -1.1924312143095616, "hardswish": -1.5, "abs": 0.0, "square": 0.0}
"""Functions that fall to one lowest point and rise from there."""

_GELU = {"none": -0.7517915246935645, "tanh": -0.7524614220710162}
_EXACT = frozenset(
    {"relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "abs", "floor", "ceil"}
)
_STEEP_ENOUGH = 15
"""From here on softplus is a line but for less than float32 can tell."""

_ROUNDINGS = 16 * 2.0**-24
"""Relative error that is allowed to a function of float32 (torch's are accurate to about 1 to 4 units)."""


@dataclass(frozen=True)
class Pieces:
    """A function of straight pieces: slope · z + offset + Σ coefficient · relu(z − kink) over `kinks`."""

    slope: Tensor
    offset: float
    kinks: tuple[tuple[float, Tensor], ...]
    steepest: float


@dataclass(frozen=True)
class Lines:
    """Straight lines below and above a function over a range: `below[0]`·z + `below[1]` and so on.

    `free` marks where the slope of the lower line may be anything between `least` and 1, through the origin.
    """

    below: tuple[Tensor, Tensor]
    above: tuple[Tensor, Tensor]
    free: Tensor
    least: Tensor


def slope_below_zero(node: Node) -> Tensor | None:
    """The slope for negative inputs of a function that is the identity for positive ones; None for other functions."""
    name, args = node.operator, node.args
    number: object = None
    match name:
        case "relu":
            number = 0.0
        case "leaky_relu":
            number = args[1] if len(args) > 1 else 0.01
        case "_prelu_kernel" if isinstance(args[1], Tensor):
            return args[1].double()
        case "rrelu_with_noise" if not (len(args) > 4 and args[4]):
            low, high = (args[place] if len(args) > place else fallback for place, fallback in ((2, 1 / 8), (3, 1 / 3)))
            number = (low + high) / 2
        case "clamp" | "clamp_min" if _limits(node) == (0.0, math.inf):
            number = 0.0
        case "threshold" if args[1] == args[2] == 0:
            number = 0.0
    return torch.tensor(float(number), dtype=torch.float64) if isinstance(number, (int, float)) else None


def _limits(node: Node) -> tuple[float, float] | None:
    """The limits of a clamp between numbers; None for anything else."""
    name = node.operator
    given = [*node.args[1:3]]
    if name == "relu6":
        return 0.0, 6.0
    if name == "hardtanh":
        low, high = (given[place] if place < len(given) else edge for place, edge in enumerate((-1.0, 1.0)))
    elif name in ("clamp", "clamp_min", "clamp_max"):
        low = node.kwargs.get("min", given[0] if given and name != "clamp_max" else None)
        high = node.kwargs.get("max", (given[1] if len(given) > 1 else None) if name == "clamp" else None)
        high = given[0] if name == "clamp_max" and given else high
        low, high = -math.inf if low is None else low, math.inf if high is None else high
    else:
        return None
    if not all(isinstance(limit, (int, float)) for limit in (low, high)):
        return None
    return float(low), float(high)


def pieces_of(node: Node) -> Pieces | None:
    """A rectifier or a clamp as its pieces; None for another function."""
    one = torch.ones((), dtype=torch.float64)
    slope = slope_below_zero(node)
    if slope is not None:
        return Pieces(slope, 0.0, ((0.0, 1 - slope),), max(1.0, float(slope.abs().max())))
    limits = _limits(node)
    if limits is None or not limits[0] < limits[1]:
        return None
    low, high = limits
    if math.isinf(low):
        return Pieces(one, 0.0, ((high, -one),) if math.isfinite(high) else (), 1.0)
    kinks = ((low, one), (high, -one)) if math.isfinite(high) else ((low, one),)
    return Pieces(0 * one, low, kinks, 1.0)


def is_curve(node: Node) -> bool:
    """Whether the value is a function, entry by entry, of one other value, and one whose range is known."""
    if not node.args or not isinstance(node.args[0], Ref) or len(node.parents) != 1 or node.pick not in (None, 0):
        return False
    name = node.operator
    if slope_below_zero(node) is not None or _limits(node) is not None or name in ("gelu", "threshold"):
        return True
    if name in ("elu", "celu") and any(isinstance(a, (int, float)) and a < 0 for a in node.args[1:]):
        return False
    if name == "softplus" and len(node.args) > 2 and node.args[2] < _STEEP_ENOUGH:
        return False  # it falls where it becomes a line
    if name == "pow":
        return bool(node.args[1] == 2)
    return name in _RISING or name in _LOWEST


def range_of(node: Node, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value over `low … high`, both entry by entry."""
    parent = node.parents[0]

    def at(z: Tensor) -> Tensor:
        return node.run({parent: z}, torch.float64)

    ends = at(low), at(high)
    least, most = torch.minimum(*ends), torch.maximum(*ends)
    turn = _turn(node)
    if turn is not None:
        bottom = at(torch.full_like(low, turn))
        least = torch.where((low < turn) & (high > turn), torch.minimum(least, bottom), least)
    if node.operator == "threshold":  # it may jump up and down
        value, limit = float(node.args[2]), float(node.args[1])
        crosses = (low <= limit) & (high > limit)
        least = torch.where(crosses, least.clamp(max=min(value, limit)), least)
        most = torch.where(crosses, most.clamp(min=value), most)
    slack = torch.zeros_like(least) if node.operator in _EXACT else _ROUNDINGS * torch.maximum(least.abs(), most.abs())
    if node.operator not in _EXACT:
        slack = slack + _ROUNDINGS * _scale(node, low, high)
    return least - slack, most + slack


def _turn(node: Node) -> float | None:
    """Where a function has its lowest point; None if it never falls."""
    if node.operator == "gelu":
        return _GELU[str(node.kwargs.get("approximate", "none"))]
    slope = slope_below_zero(node)
    if slope is not None and bool((slope < 0).any()):
        return 0.0
    return 0.0 if node.operator == "pow" else _LOWEST.get(node.operator)


def _scale(node: Node, low: Tensor, high: Tensor) -> Tensor:
    """What the rounding of a smooth function is relative to, beside its value: z times a factor of it."""
    if node.operator in ("silu", "gelu", "mish", "hardswish"):
        return torch.maximum(low.abs(), high.abs()).clamp(max=16.0)
    return torch.full_like(low, 1.0)


def lines_of(node: Node, low: Tensor, high: Tensor, bounds: tuple[Tensor, Tensor]) -> Lines:
    """Lines below and above the function over `low … high`; `bounds` is its range, where there are none better."""
    zero = torch.zeros_like(low)
    slope = slope_below_zero(node)
    if slope is not None and bool((slope <= 1).all()):
        return _of_rectifier(slope.to(low.device).expand_as(low), low, high)
    limits = _limits(node)
    if limits is not None and limits[0] < limits[1]:
        return _of_clamp(*limits, low, high)
    return Lines((zero, bounds[0]), (zero, bounds[1]), torch.zeros_like(low, dtype=torch.bool), zero)


def _of_rectifier(slope: Tensor, low: Tensor, high: Tensor) -> Lines:
    """Of a rectifier, which is convex: the chord above it; below it any line through the kink."""
    zero = torch.zeros_like(low)
    crosses = (low < 0) & (high > 0)
    width = torch.where(crosses, high - low, torch.ones_like(low))
    chord = (high - slope * low) / width
    straight = torch.where(high <= 0, slope, torch.ones_like(slope))
    above = torch.where(crosses, chord, straight)
    at = torch.where(crosses, slope * low - chord * low, zero)
    below = torch.where(crosses, torch.where(high > -low, torch.ones_like(low), slope), straight)
    return Lines((below, zero), (above, at), crosses, slope)


def _of_clamp(least: float, most: float, low: Tensor, high: Tensor) -> Lines:
    """Of a clamp: the identity inside, a constant outside, and where a limit is crossed the chords."""
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    under, over = low < least, high > most
    inside = ~under & ~over
    flat = (high <= least) | (low >= most)
    value = low.clamp(least, most)
    to_top = torch.minimum(high, torch.full_like(high, most))
    up = (to_top - least) / torch.where(under & ~flat, to_top - low, one)
    above = torch.where(under, up, torch.where(high - most > most - low, zero, one))
    at_above = torch.where(under, least - up * low, torch.where(above == 0, torch.full_like(low, most), zero))
    from_bottom = torch.maximum(low, torch.full_like(low, least))
    down = (most - from_bottom) / torch.where(over & ~flat, high - from_bottom, one)
    below = torch.where(over, down, torch.where(high - least > least - low, one, zero))
    at_below = torch.where(over, most - down * high, torch.where(below == 0, torch.full_like(low, least), zero))

    def settled(line: Tensor, straight: Tensor, constant: Tensor) -> Tensor:
        return torch.where(flat, constant, torch.where(inside, straight, line))

    return Lines(
        (settled(below, one, zero), settled(at_below, zero, value)),
        (settled(above, one, zero), settled(at_above, zero, value)),
        torch.zeros_like(flat),
        zero,
    )
