"""The table of activation kinds: how torch spells each, where it is flat, and what may take its place.

A new kind of torch's own takes three files: its entry here, a row among the spellings of
`tests/programs/eager/test_interception.py`, and its formula, parameters and edges in numpy in
`tests/measure/test_counters.py`. Everything else reads the table. Its output is computed by
`torch.nn.functional.<name>`, called with its parameters by name.

Torch is named here by strings only, so that judging and rendering never import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deadrelu.flatness import Parameters, Region, bell, gelu_slope, logistic, mish_slope, steep_region


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation of torch: `name` in `torch.nn.functional`, `module` in `torch.nn`, and its derivative.

    `region` maps the parameters of a rectifier to where its derivative is not zero by definition; None if that is zero
    nowhere, or at `zero` alone. `curve` maps a pre-activation and the parameters to the derivative; None for that of a
    rectifier which is 1 in its region. `is_linear`: whether it is a straight line where a unit fires.

    `defaults` are its parameters by the fields of its module, in the order in which its functions take them after the
    input; None for one without a default. `inner` are the aten operators that bear another name, `special` the
    functions that do. `inplace`: whether it has a form in place. `slope` is the keyword by which its module takes a
    slope for negative inputs. If it `is_gated`, its pre-activation is the second half of its input along `dim`.
    `output` is the function of torch that computes what it makes of its pre-activation, if not that of its name.

    `replacements` are those of `REPLACEMENTS` that keep its shape where it is alive, as long as its parameters are
    `replaceable`; `cap` is the upper limit of its output, which they have to keep.
    """

    name: str
    module: str
    curve: Callable[[float, Parameters], float] | None = None
    region: Callable[[Parameters], Region] | None = None
    zero: float | None = None
    is_linear: bool = False
    defaults: Mapping[str, float | str | None] = field(default_factory=dict)
    inner: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    inplace: bool = True
    slope: str | None = None
    is_gated: bool = False
    output: str | None = None
    replacements: tuple[str, ...] = ()
    replaceable: Callable[[Parameters], bool] = lambda _: True
    cap: Callable[[Parameters], float] | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """Its functions and methods, as dotted names of which torch may lack some."""
        owners = ("torch.nn.functional", "torch", "torch.Tensor")
        return (*(f"{owner}.{self.name}{suffix}" for owner in owners for suffix in ("", "_")), *self.special)

    @property
    def operators(self) -> tuple[str, ...]:
        """Its aten operators, without overload, of which torch may lack some."""
        return (self.name, f"{self.name}_", *self.inner)

    @property
    def module_path(self) -> str:
        """The full name of its module."""
        return f"torch.nn.modules.activation.{self.module}"

    def derivative(self, z: float, parameters: Parameters) -> float:
        """Its derivative at a pre-activation; at a kink the one that torch takes."""
        if self.curve is not None:
            return self.curve(z, parameters)
        return float(self.region is not None and z in self.region(parameters))

    def firing(self, parameters: Parameters, saturated_below: float) -> Region:
        """Where a unit fires: for a rectifier `region`, for others where the derivative is larger in size than this."""
        if self.region is not None:
            return self.region(parameters)
        return steep_region(self.derivative, tuple(parameters), saturated_below)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
_ALL = ("leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "softplus", "mish", "hardswish")

ACTIVATIONS: tuple[Activation, ...] = (
    Activation(name="relu", module="ReLU", region=lambda _: Region(0.0), is_linear=True, replacements=_ALL),
    Activation(
        name="relu6",
        module="ReLU6",
        region=lambda _: Region(0.0, 6.0),
        is_linear=True,
        replacements=("leaky_relu",),
        cap=lambda _: 6.0,
    ),
    Activation(
        name="hardtanh",
        module="Hardtanh",
        region=lambda p: Region(p[0], p[1]),
        is_linear=True,
        defaults={"min_val": -1.0, "max_val": 1.0},
        replacements=("leaky_relu",),
        replaceable=lambda p: bool(p[0] == 0),
        cap=lambda p: float(p[1]),
    ),
    Activation(
        name="threshold",
        module="Threshold",
        region=lambda p: Region(p[0]),
        is_linear=True,
        defaults={"threshold": 0.0, "value": 0.0},
        replacements=_ALL,
        replaceable=lambda p: p[0] == p[1] == 0,
    ),
    Activation(
        name="hardswish",
        module="Hardswish",
        curve=lambda z, _: 0.0 if z <= -3 else 1.0 if z >= 3 else (2 * z + 3) / 6,
        region=lambda _: Region(-3.0),
        replacements=("gelu", "silu", "mish"),
    ),
    Activation(
        name="hardsigmoid",
        module="Hardsigmoid",
        curve=lambda z, _: (-3 < z < 3) / 6,
        region=lambda _: Region(-3.0, 3.0),
        is_linear=True,
    ),
    Activation(
        name="hardshrink",
        module="Hardshrink",
        region=lambda p: Region(-p[0], p[0], outside=True),
        is_linear=True,
        defaults={"lambd": 0.5},
        inplace=False,
    ),
    Activation(
        name="softshrink",
        module="Softshrink",
        region=lambda p: Region(-p[0], p[0], outside=True),
        is_linear=True,
        defaults={"lambd": 0.5},
        inplace=False,
    ),
    Activation(
        name="leaky_relu",
        module="LeakyReLU",
        curve=lambda z, p: 1.0 if z > 0 else p[0],
        defaults={"negative_slope": 0.01},
        slope="negative_slope",
    ),
    Activation(
        name="prelu",
        module="PReLU",
        curve=lambda z, p: 1.0 if z > 0 else p[0],
        defaults={"weight": None},
        inner=("_prelu_kernel",),
        inplace=False,
        slope="init",
    ),
    Activation(
        name="rrelu",
        module="RReLU",
        curve=lambda z, p: 1.0 if z > 0 else (p[0] + p[1]) / 2,
        defaults={"lower": 1 / 8, "upper": 1 / 3},
        inner=("rrelu_with_noise", "rrelu_with_noise_"),
    ),
    Activation(
        name="elu",
        module="ELU",
        curve=lambda z, p: 1.0 if z > 0 else p[0] * math.exp(z),
        defaults={"alpha": 1.0},
    ),
    Activation(
        name="selu",
        module="SELU",
        curve=lambda z, _: _SELU_SCALE * (1.0 if z > 0 else _SELU_ALPHA * math.exp(z)),
    ),
    Activation(
        name="celu",
        module="CELU",
        curve=lambda z, p: 1.0 if z > 0 else math.exp(min(z / p[0], 0.0)),
        defaults={"alpha": 1.0},
    ),
    Activation(name="gelu", module="GELU", curve=gelu_slope, defaults={"approximate": "none"}, inplace=False),
    Activation(name="silu", module="SiLU", curve=lambda z, _: logistic(z) + z * bell(z)),
    Activation(name="mish", module="Mish", curve=mish_slope),
    Activation(
        name="softplus",
        module="Softplus",
        curve=lambda z, p: 1.0 if z * p[0] > p[1] else logistic(z * p[0]),
        defaults={"beta": 1.0, "threshold": 20.0},
        inplace=False,
    ),
    Activation(
        name="logsigmoid",
        module="LogSigmoid",
        curve=lambda z, _: logistic(-z),
        inner=("log_sigmoid", "log_sigmoid_forward"),
        inplace=False,
    ),
    Activation(
        name="sigmoid",
        module="Sigmoid",
        curve=lambda z, _: bell(z),
        inner=("special_expit",),
        special=("torch.special.expit",),
        inplace=False,
    ),
    Activation(name="tanh", module="Tanh", curve=lambda z, _: 4 * bell(2 * z), inplace=False),
    Activation(name="softsign", module="Softsign", curve=lambda z, _: 1 / (1 + abs(z)) ** 2, inplace=False),
    Activation(name="tanhshrink", module="Tanhshrink", curve=lambda z, _: math.tanh(z) ** 2, zero=0.0, inplace=False),
    Activation(name="glu", module="GLU", curve=lambda z, _: bell(z), inplace=False, is_gated=True, output="sigmoid"),
)

BY_NAME = {kind.name: kind for kind in ACTIVATIONS}

REPLACEMENTS: Mapping[str, Activation] = {name: BY_NAME[name] for name in _ALL}
"""What `patch` can put in the place of a ReLU-like activation, by torch's functional names."""

KEEP = "keep"
"""In the place of a replacement: the activation stays as it is. The arm of a trial that changes nothing, too."""

STANDINS = frozenset(REPLACEMENTS) - {"hardswish"} | {"rrelu"}
"""What a ReLU may have been swapped for: as a function it takes the number that the ReLU would have in the names."""

LEAKY = frozenset({"leaky_relu", "prelu", "rrelu"})
"""What is a ReLU with a slope for negative inputs: a unit that is never positive only leaks."""

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


def canonical(name: str, parameters: Parameters) -> tuple[str, Parameters]:
    """The same activation under its own name where a general one was used to spell it: hardtanh(0, 6) is relu6.

    One that lets nothing through below zero is a ReLU. Torch computes SELU and CELU by ELU, with two more parameters.
    """
    given = tuple(parameters)
    if name == "hardtanh" and given == (0.0, 6.0):
        return "relu6", ()
    if name == "hardtanh" and given == (0.0, math.inf):
        return "relu", ()
    if name == "elu" and len(given) == 3:
        alpha, scale, inner = given
        if scale == 1:
            name, given = ("elu", (alpha,)) if inner == 1 else ("celu", (1 / inner,))
        else:
            name, given = "selu", ()
    slopes = (sum(given),) if name == "rrelu" else given
    is_rectified = name in ("leaky_relu", "prelu", "rrelu", "elu") and bool(slopes) and not any(slopes)
    return ("relu", ()) if is_rectified else (name, given)
