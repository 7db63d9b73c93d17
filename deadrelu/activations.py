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

    `module` is its class in `torch.nn` and `attributes` the fields that hold its parameters: also the keywords by which
    `functions` (dotted torch names) and `operators` (aten names, without overload) take them after the input, in this
    order, with these `defaults`. `region` maps the parameters to where a unit fires. `swaps` are the `REPLACEMENTS`
    that keep its shape where it is alive.
    """

    name: str
    region: Callable[[Parameters], Region]
    functions: tuple[str, ...]
    operators: tuple[str, ...]
    module: str
    attributes: tuple[str, ...] = ()
    defaults: tuple[float, ...] = ()
    swaps: tuple[str, ...] = ()


REPLACEMENTS = ("leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "softplus", "mish", "hardswish")
"""What `patch` can put in the place of a rectifier, by torch's functional names."""


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
        swaps=REPLACEMENTS,
    ),
    Activation(
        name="relu6",
        region=lambda _: Region(0.0, 6.0),
        functions=("torch.nn.functional.relu6",),
        operators=("relu6", "relu6_"),
        module="ReLU6",
        swaps=("leaky_relu",),
    ),
    Activation(
        name="hardtanh",
        region=lambda p: Region(p[0], p[1]),
        functions=("torch.nn.functional.hardtanh", "torch.nn.functional.hardtanh_"),
        operators=("hardtanh", "hardtanh_"),
        module="Hardtanh",
        attributes=("min_val", "max_val"),
        defaults=(-1.0, 1.0),
        swaps=("leaky_relu",),
    ),
    Activation(
        name="threshold",
        region=lambda p: Region(p[0]),
        functions=_spellings("threshold"),
        operators=("threshold", "threshold_"),
        module="Threshold",
        attributes=("threshold", "value"),
        defaults=(0.0, 0.0),
        swaps=REPLACEMENTS,
    ),
    Activation(
        name="hardswish",
        region=lambda _: Region(-3.0),
        functions=("torch.nn.functional.hardswish",),
        operators=("hardswish", "hardswish_"),
        module="Hardswish",
        swaps=("gelu", "silu", "mish"),
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
        defaults=(0.5,),
    ),
    Activation(
        name="softshrink",
        region=lambda p: Region(-p[0], p[0], outside=True),
        functions=("torch.nn.functional.softshrink",),
        operators=("softshrink",),
        module="Softshrink",
        attributes=("lambd",),
        defaults=(0.5,),
    ),
)

CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_")
"""Torch's clamps, as functions, methods and operators. With a lower bound of zero they are ReLUs by another name."""

BY_NAME = {kind.name: kind for kind in ACTIVATIONS}


def clamp_kind(low: object, high: object) -> tuple[str, Parameters] | None:
    """The activation that `clamp(min=low, max=high)` spells, and its parameters; None unless it clamps at zero.

    A clamp at any other bound (`clamp(min=1e-6)` before a logarithm) guards a number; it is no activation.
    """
    if isinstance(low, bool) or not isinstance(low, (int, float)) or low != 0:
        return None
    if high is None:
        return "relu", ()
    if isinstance(high, bool) or not isinstance(high, (int, float)) or high <= 0:
        return None
    return canonical("hardtanh", (0.0, float(high)))


def canonical(name: str, parameters: Parameters) -> tuple[str, Parameters]:
    """The same activation under its own name where a general one was used to spell it: hardtanh(0, 6) is relu6."""
    if name == "hardtanh" and tuple(parameters) == (0.0, 6.0):
        return "relu6", ()
    if name == "hardtanh" and tuple(parameters) == (0.0, math.inf):
        return "relu", ()
    return name, parameters
