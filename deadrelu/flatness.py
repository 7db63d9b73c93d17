"""Where an activation is flat: found from its derivative, and never typed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

Parameters = Sequence[Any]
"""The parameters of an activation: numbers, and of GELU the word for its approximation."""

_STEPS = 16
"""Points of the search for flat parts between a number and its double."""


@dataclass(frozen=True)
class Region:
    """Where a unit fires: `low < z < high`, or, if `outside`, everywhere but in the flat part `[low, high]`.

    With `low` above `high` that part is empty: a hardshrink of negative lambd is the identity. Both ends are kinks and
    exclusive: at ReLU's kink torch passes no gradient (`torch.relu` has subgradient 0 at 0).
    """

    low: float
    high: float = math.inf
    outside: bool = False

    def __contains__(self, z: float) -> bool:
        """Whether a unit fires at this pre-activation."""
        return not self.low <= z <= self.high if self.outside else self.low < z < self.high


@cache
def steep_region(derivative: Callable[[float, Parameters], float], parameters: tuple[Any, ...], limit: float) -> Region:
    """Where the derivative is larger in size than `limit`, or crosses zero between such parts.

    Flat are the connected parts that reach −∞ and +∞; if neither does, the part around zero.
    """

    def is_flat(z: float) -> bool:
        return abs(derivative(z, parameters)) <= limit

    sizes = [2.0 ** (n / _STEPS) for n in range(-20 * _STEPS, 20 * _STEPS + 1)]
    up = [0.0, *sizes]
    down = [-size for size in up]
    low, high = _edge(is_flat, [*down[::-1], *sizes]), _edge(is_flat, [*up[::-1], *down[1:]])
    if low is None and high is None and is_flat(0.0):
        return Region(_edge(is_flat, down) or 0.0, _edge(is_flat, up) or 0.0, outside=True)
    return Region(-math.inf if low is None else low, math.inf if high is None else high)


def _edge(is_flat: Callable[[float], bool], points: Sequence[float]) -> float | None:
    """The last float of the flat part in which the points begin; None if they do not begin in one."""
    if not is_flat(points[0]):
        return None
    flat, steep = next(((a, b) for a, b in pairwise(points) if not is_flat(b)), (points[-1], points[-1]))
    while (middle := (flat + steep) / 2) not in (flat, steep):
        flat, steep = (middle, steep) if is_flat(middle) else (flat, middle)
    return flat


def logistic(z: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def bell(z: float) -> float:
    """The derivative of the logistic function."""
    e = math.exp(-abs(z))
    return e / (1 + e) ** 2


def gelu_slope(z: float, p: Parameters) -> float:
    """The derivative of GELU, or of its approximation by a tanh."""
    if p[0] == "tanh":
        u = 2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
        return logistic(u) + z * bell(u) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return math.erfc(-z / math.sqrt(2)) / 2 + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def mish_slope(z: float, _: Parameters) -> float:
    """The derivative of Mish."""
    tanh = math.tanh(max(z, 0.0) + math.log1p(math.exp(-abs(z))))
    return tanh + z * (1 - tanh * tanh) * logistic(z)
