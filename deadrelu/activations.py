"""The table of activation kinds: where each lets no gradient through, how torch spells it, what may take its place.

Torch is named here by dotted strings only, so that judging and rendering never import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """Where a unit fires: `low < z < high`, or, for the shrinkages, everywhere outside `[low, high]`.

    Both ends are exclusive: at ReLU's kink torch passes no gradient (`torch.relu` has subgradient 0 at 0).
    """

    low: float
    high: float = math.inf
    outside: bool = False


Parameters = Sequence[float]


@dataclass(frozen=True)
class Activation:
    """One kind of activation call.

    `module` is its class in `torch.nn` and `attributes` the fields that hold its parameters, in the order in which
    `functions` (dotted torch names) and `operators` (aten names, without overload) take them after the input;
    `names` are the keyword spellings and `defaults` their values. `region` maps the parameters to where a unit fires.
    """

    name: str
    region: Callable[[Parameters], Region]
    functions: tuple[str, ...]
    operators: tuple[str, ...]
    module: str
    attributes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    defaults: tuple[float, ...] = ()


def _spellings(name: str) -> tuple[str, ...]:
    """The usual functional spellings of an activation, in place or not."""
    return (f"torch.nn.functional.{name}", f"torch.nn.functional.{name}_", f"torch.{name}", f"torch.{name}_")


ACTIVATIONS: tuple[Activation, ...] = (
    Activation(
        name="relu",
        region=lambda _: Region(0.0),
        functions=(*_spellings("relu"), "torch.Tensor.relu", "torch.Tensor.relu_"),
        operators=("relu", "relu_"),
        module="ReLU",
    ),
    Activation(
        name="relu6",
        region=lambda _: Region(0.0, 6.0),
        functions=("torch.nn.functional.relu6",),
        operators=("relu6", "relu6_"),
        module="ReLU6",
    ),
    Activation(
        name="hardtanh",
        region=lambda p: Region(p[0], p[1]),
        functions=("torch.nn.functional.hardtanh", "torch.nn.functional.hardtanh_"),
        operators=("hardtanh", "hardtanh_"),
        module="Hardtanh",
        attributes=("min_val", "max_val"),
        names=("min_val", "max_val"),
        defaults=(-1.0, 1.0),
    ),
    Activation(
        name="threshold",
        region=lambda p: Region(p[0]),
        functions=_spellings("threshold"),
        operators=("threshold", "threshold_"),
        module="Threshold",
        attributes=("threshold",),
        names=("threshold",),
        defaults=(0.0,),
    ),
    Activation(
        name="hardswish",
        region=lambda _: Region(-3.0),
        functions=("torch.nn.functional.hardswish",),
        operators=("hardswish", "hardswish_"),
        module="Hardswish",
    ),
    Activation(
        name="hardsigmoid",
        region=lambda _: Region(-3.0, 3.0),
        functions=("torch.nn.functional.hardsigmoid",),
        operators=("hardsigmoid", "hardsigmoid_"),
        module="Hardsigmoid",
    ),
    Activation(
        name="hardshrink",
        region=lambda p: Region(-p[0], p[0], outside=True),
        functions=("torch.nn.functional.hardshrink", "torch.hardshrink", "torch.Tensor.hardshrink"),
        operators=("hardshrink",),
        module="Hardshrink",
        attributes=("lambd",),
        names=("lambd",),
        defaults=(0.5,),
    ),
    Activation(
        name="softshrink",
        region=lambda p: Region(-p[0], p[0], outside=True),
        functions=("torch.nn.functional.softshrink",),
        operators=("softshrink",),
        module="Softshrink",
        attributes=("lambd",),
        names=("lambd",),
        defaults=(0.5,),
    ),
)

CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_")
"""Torch's clamps, as functions, methods and operators. With a lower bound of zero they are ReLUs by another name."""

BY_NAME = {kind.name: kind for kind in ACTIVATIONS}


def clamp_kind(low: object, high: object) -> tuple[str, Region] | None:
    """The activation that `clamp(min=low, max=high)` spells, or None: only a clamp at zero is one.

    A clamp at any other bound (`clamp(min=1e-6)` before a logarithm) guards a number; it is no activation.
    """
    if isinstance(low, bool) or not isinstance(low, (int, float)) or low != 0:
        return None
    if high is None or high == math.inf:
        return "relu", Region(0.0)
    if isinstance(high, bool) or not isinstance(high, (int, float)) or high <= 0:
        return None
    return ("relu6" if high == 6 else "hardtanh"), Region(0.0, float(high))
