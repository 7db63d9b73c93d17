"""The table of activation kinds: where each lets no gradient through, how torch spells it, what may take its place.

Torch is named here by dotted strings only, so that judging and rendering never import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


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

CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_", "_foreach_clamp_min", "_foreach_clamp_min_")
"""Torch's clamps, as functions, methods and operators. With a lower bound of zero they are ReLUs by another name.

Those of a whole list of tensors make one call for each tensor.
"""


@dataclass(frozen=True)
class Leak:
    """An activation that lets gradient through below zero: no unit of it dies.

    Most multiply what is below zero by a slope, and are a ReLU where that slope is zero. `attributes` are the fields of
    its class in `torch.nn` that hold the slope; without any it is never a ReLU. They are also the keywords by which its
    `functions` take it, from argument number `first` on, with these `defaults`. The two slopes of an RReLU are
    averaged, as in eval mode.
    """

    name: str
    module: str
    attributes: tuple[str, ...]
    functions: tuple[str, ...]
    operators: tuple[str, ...]
    defaults: tuple[float, ...] = ()
    first: int = 1


_RRELU = Leak(
    name="rrelu",
    module="RReLU",
    attributes=("lower", "upper"),
    functions=_spellings("rrelu"),
    operators=("rrelu", "rrelu_"),
    defaults=(1 / 8, 1 / 3),
)

LEAKS: tuple[Leak, ...] = (
    Leak(
        name="leaky_relu",
        module="LeakyReLU",
        attributes=("negative_slope",),
        functions=_spellings("leaky_relu"),
        operators=("leaky_relu", "leaky_relu_"),
        defaults=(0.01,),
    ),
    Leak(
        name="prelu",
        module="PReLU",
        attributes=("weight",),
        functions=("torch.nn.functional.prelu", "torch.prelu", "torch.Tensor.prelu"),
        operators=("prelu", "_prelu_kernel"),
    ),
    _RRELU,
    replace(_RRELU, functions=(), operators=("rrelu_with_noise", "rrelu_with_noise_"), first=2),
    Leak(
        name="elu",
        module="ELU",
        attributes=("alpha",),
        functions=_spellings("elu"),
        operators=("elu", "elu_"),
        defaults=(1.0,),
    ),
    *(
        Leak(name=name, module=module, attributes=(), functions=_spellings(name), operators=(name, f"{name}_"))
        for name, module in (
            ("selu", "SELU"),
            ("celu", "CELU"),
            ("gelu", "GELU"),
            ("silu", "SiLU"),
            ("softplus", "Softplus"),
            ("mish", "Mish"),
        )
    ),
)
"""The leaky activations, some of which may be a ReLU."""

SPELLED: tuple[Activation | Leak, ...] = (*ACTIVATIONS, *LEAKS)
"""All kinds of activation with a module of their own in `torch.nn`."""

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


def leak_kind(slopes: Sequence[float]) -> tuple[str, Parameters] | None:
    """The activation that leaks with these slopes, one for all units or one a unit; None if every unit leaks.

    All zero, it is a plain ReLU. A ReLU with parameters leaks in the units whose slope is not zero.
    """
    if all(slopes) or not slopes:
        return None
    return ("relu", tuple(slopes)) if any(slopes) else ("relu", ())


def canonical(name: str, parameters: Parameters) -> tuple[str, Parameters]:
    """The same activation under its own name where a general one was used to spell it: hardtanh(0, 6) is relu6."""
    if name == "hardtanh" and tuple(parameters) == (0.0, 6.0):
        return "relu6", ()
    if name == "hardtanh" and tuple(parameters) == (0.0, math.inf):
        return "relu", ()
    return name, parameters
