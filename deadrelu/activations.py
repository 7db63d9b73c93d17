"""The table of activation kinds: how torch spells each, where it is flat, and what may take its place.

A new kind of torch's own takes three files: its entry here, a row among the spellings of
`tests/programs/eager/test_interception.py`, and its formula, parameters and edges in numpy in
`tests/measure/test_counters.py`. Everything else reads the table. Its output is computed by
`torch.nn.functional.<name>`, called with its parameters in order.

Torch is named here by strings only, so that judging and rendering never import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Region:
    """Where a unit fires: `low < z < high`, or, if `outside`, everywhere but in the flat part `[low, high]`.

    With `low` above `high` that part is empty: a hardshrink of negative lambd is the identity. Both ends are kinks and
    exclusive: at ReLU's kink torch passes no gradient (`torch.relu` has subgradient 0 at 0).
    """

    low: float
    high: float = math.inf
    outside: bool = False


Parameters = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How torch spells an activation: `name` in `torch.nn.functional`, `module` in `torch.nn`.

    `defaults` are its parameters by the fields of its module, in the order in which its functions take them after the
    input; None for one without a default. `inner` are the aten operators that bear another name. `inplace`: whether it
    has a form in place. `slope` is the keyword by which its module takes a slope for negative inputs.
    """

    name: str
    module: str
    defaults: Mapping[str, float | None] = field(default_factory=dict)
    inner: tuple[str, ...] = ()
    inplace: bool = True
    slope: str | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """Its functions and methods, as dotted names of which torch may lack some."""
        owners = ("torch.nn.functional", "torch", "torch.Tensor")
        return tuple(f"{owner}.{self.name}{suffix}" for owner in owners for suffix in ("", "_"))

    @property
    def operators(self) -> tuple[str, ...]:
        """Its aten operators, without overload, of which torch may lack some."""
        return (self.name, f"{self.name}_", *self.inner)

    @property
    def module_path(self) -> str:
        """The full name of its module."""
        return f"torch.nn.modules.activation.{self.module}"


@dataclass(frozen=True, kw_only=True)
class Activation(_Kind):
    """An activation that is flat somewhere, so that its units can die.

    `region` maps its parameters to where a unit fires. `replacements` are those of `REPLACEMENTS` that keep its shape
    where it is alive, as long as its parameters are `replaceable`; `cap` is the upper limit of its output, which they
    have to keep.
    """

    region: Callable[[Parameters], Region]
    replacements: tuple[str, ...] = ()
    replaceable: Callable[[Parameters], bool] = lambda _: True
    cap: Callable[[Parameters], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Leak(_Kind):
    """An activation that lets gradient through below zero, so that no unit of it dies.

    Its parameters are the slopes below zero; where these are zero, it is a ReLU. The two slopes of an RReLU are
    averaged, as in eval mode.
    """


_ALL = ("leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "softplus", "mish", "hardswish")

ACTIVATIONS: tuple[Activation, ...] = (
    Activation(
        name="relu",
        module="ReLU",
        region=lambda _: Region(0.0),
        replacements=_ALL,
    ),
    Activation(
        name="relu6",
        module="ReLU6",
        region=lambda _: Region(0.0, 6.0),
        replacements=("leaky_relu",),
        cap=lambda _: 6.0,
    ),
    Activation(
        name="hardtanh",
        module="Hardtanh",
        defaults={"min_val": -1.0, "max_val": 1.0},
        region=lambda p: Region(p[0], p[1]),
        replacements=("leaky_relu",),
        replaceable=lambda p: p[0] == 0,
        cap=lambda p: p[1],
    ),
    Activation(
        name="threshold",
        module="Threshold",
        defaults={"threshold": 0.0, "value": 0.0},
        region=lambda p: Region(p[0]),
        replacements=_ALL,
        replaceable=lambda p: p[0] == p[1] == 0,
    ),
    Activation(
        name="hardswish",
        module="Hardswish",
        region=lambda _: Region(-3.0),
        replacements=("gelu", "silu", "mish"),
    ),
    Activation(
        name="hardsigmoid",
        module="Hardsigmoid",
        region=lambda _: Region(-3.0, 3.0),
    ),
    Activation(
        name="hardshrink",
        module="Hardshrink",
        defaults={"lambd": 0.5},
        inplace=False,
        region=lambda p: Region(-p[0], p[0], outside=True),
    ),
    Activation(
        name="softshrink",
        module="Softshrink",
        defaults={"lambd": 0.5},
        inplace=False,
        region=lambda p: Region(-p[0], p[0], outside=True),
    ),
)

LEAKS: tuple[Leak, ...] = (
    Leak(name="leaky_relu", module="LeakyReLU", defaults={"negative_slope": 0.01}, slope="negative_slope"),
    Leak(
        name="prelu", module="PReLU", defaults={"weight": None}, inner=("_prelu_kernel",), inplace=False, slope="init"
    ),
    Leak(
        name="rrelu",
        module="RReLU",
        defaults={"lower": 1 / 8, "upper": 1 / 3},
        inner=("rrelu_with_noise", "rrelu_with_noise_"),
    ),
    Leak(name="elu", module="ELU", defaults={"alpha": 1.0}),
    Leak(name="selu", module="SELU"),
    Leak(name="celu", module="CELU"),
    Leak(name="gelu", module="GELU", inplace=False),
    Leak(name="silu", module="SiLU"),
    Leak(name="softplus", module="Softplus", inplace=False),
    Leak(name="mish", module="Mish"),
)

KINDS: tuple[Activation | Leak, ...] = (*ACTIVATIONS, *LEAKS)
BY_NAME = {kind.name: kind for kind in ACTIVATIONS}

REPLACEMENTS: Mapping[str, Activation | Leak] = {
    name: next(kind for kind in KINDS if kind.name == name) for name in _ALL
}
"""What `patch` can put in the place of a ReLU-like activation, by torch's functional names."""

CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_", "_foreach_clamp_min", "_foreach_clamp_min_")
"""Torch's clamps, as functions, methods and operators. With a lower bound of zero they are ReLUs by another name.

Those of a whole list of tensors make one call for each tensor.
"""


def clamp_kind(low: object, high: object) -> tuple[str, Parameters] | None:
    """The activation that `clamp(min=low, max=high)` spells, and its parameters; None unless it clamps at zero.

    A clamp at any other bound (`clamp(min=1e-6)` before a logarithm) guards a number; it is not an activation.
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
