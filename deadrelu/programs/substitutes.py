"""What takes an activation's place in a graph of operators: the operator's name and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deadrelu.activations import BY_NAME, Parameters
from deadrelu.programs.program import Swap

Argument = float | str

_OPERATORS: dict[str, tuple[bool, Callable[[float], Mapping[str, Argument]]]] = {
    "leaky_relu": (True, lambda slope: {"negative_slope": slope}),
    "elu": (True, lambda _: {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}),
    "selu": (True, lambda _: {}),
    "celu": (True, lambda _: {"alpha": 1.0}),
    "gelu": (False, lambda _: {"approximate": "none"}),
    "silu": (True, lambda _: {}),
    "softplus": (False, lambda _: {"beta": 1.0, "threshold": 20.0}),
    "mish": (True, lambda _: {}),
    "hardswish": (True, lambda _: {}),
}
"""By replacement: whether its module in torch.nn can work in place, and every argument after the input, in order."""


@dataclass(frozen=True)
class Call:
    """One aten operator, without overload, and all its arguments after the input, in the order of its schema."""

    operator: str
    arguments: Mapping[str, Argument]


class RefusedError(Exception):
    """A site that is not swapped; the message is the reason, for the user."""


def substitutes(swap: Swap, op: str, parameters: Parameters, *, in_place: bool) -> tuple[Call, ...]:
    """The calls, one after the other, that do the work of `swap` for an activation `op` with these parameters.

    A cap is kept: below it leaks, above it stays at its limit. The work is done in place where it was and where the
    module of torch.nn could do so. Raises `RefusedError` where it cannot be done, with the reason.
    """
    if swap.to == "prelu":
        raise RefusedError("prelu has a weight, and a graph's swap adds none; leaky_relu does the same with one slope")
    cap = _cap(op, parameters)
    bends_at = {"threshold": tuple(parameters) == (0.0, 0.0), "hardtanh": op == "hardtanh" and parameters[0] == 0}
    if not bends_at.get(op, True):
        raise RefusedError(f"{op} does not bend at zero, so that {swap.to} would change it where it is alive")
    if cap is not None and swap.to != "leaky_relu":
        raise RefusedError(f"{swap.to} would lose the upper limit of {op}; leaky_relu keeps it")
    if swap.to not in BY_NAME[op].swaps:
        raise RefusedError(f"{swap.to} is no substitute for {op}")
    can_work_in_place, arguments = _OPERATORS[swap.to]
    suffix = "_" if in_place and can_work_in_place else ""
    first = Call(swap.to + suffix, arguments(swap.slope))
    return (first,) if cap is None else (first, Call(f"clamp_max{suffix}", {"max": cap}))


def _cap(op: str, parameters: Parameters) -> float | None:
    """The upper limit of an activation that has one."""
    if op == "relu6":
        return 6.0
    return parameters[1] if op == "hardtanh" else None
