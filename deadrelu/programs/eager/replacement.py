"""Makes the module that replaces an activation: the same where it is alive, with a gradient where it is dead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deadrelu.activations import REPLACEMENTS
from deadrelu.flatness import Parameters
from deadrelu.programs.program import DeadUnits
from deadrelu.programs.substitutes import RefusedError, cap_kept


@dataclass(frozen=True)
class Activity:
    """The activation to replace: kind, parameters, in place or not, training flag, dtype and device of its tensors."""

    op: str
    parameters: Parameters
    inplace: bool = False
    training: bool = False
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None


def replacement(old: Activity, to: str, slope: float) -> nn.Module:
    """The replacement of a whole site: every unit leaks.

    A cap is kept: below it leaks, above it stays at its limit. Raises `RefusedError` where `to` would lose what the
    activation is.
    """
    if old.op == "prelu" and 0 in old.parameters:
        count = sum(slope != 0 for slope in old.parameters)
        raise RefusedError(
            f"it is a PReLU that leaks in {count} of its {len(old.parameters)} units already, each with its own slope; "
            "--only-dead-units gives the dead ones a slope too"
        )
    cap = cap_kept(old.op, old.parameters, to)
    kind = REPLACEMENTS[to]
    keywords: dict[str, Any] = {kind.slope: slope} if kind.slope else {}
    if kind.inplace:
        keywords["inplace"] = old.inplace
    new: nn.Module = getattr(nn, kind.module)(**keywords)
    if cap is not None:
        # The cap never works in place: a leaky ReLU that did needs its result for the gradient as it left it.
        new = nn.Sequential(new, nn.Hardtanh(-math.inf, cap))
    return new.to(dtype=old.dtype, device=old.device).train(old.training)


def for_dead_units(old: Activity, slope: float, only: DeadUnits) -> nn.Module:
    """A PReLU that leaks in the dead units and is the same, to the last bit, in the others.

    PReLU's weight runs along dimension 1, or is one number for a single unit (axis None). Raises `RefusedError` for
    another feature axis, or for another kind.
    """
    if old.op != "relu" and not (old.op == "prelu" and 0 in old.parameters):
        raise RefusedError(f"only a ReLU can be left as it is in its live units, and this is {old.op}")
    if only.axis not in (1, None):
        raise RefusedError(f"nn.PReLU takes its units from dimension 1, and here they are on dimension {only.axis}")
    new = nn.PReLU(only.units)
    # Minus zero: a ReLU gives +0 for a negative input, and (−0)·(−z) is +0 where 0·(−z) would be −0.
    weight = torch.tensor(old.parameters) if old.parameters else torch.full((only.units,), -0.0)
    weight[list(only.dead)] = slope
    with torch.no_grad():
        new.weight.copy_(weight)
    return new.to(dtype=old.dtype, device=old.device).train(old.training)


def leaking_units(module: nn.Module) -> set[int] | None:
    """The units in which a replacement leaks; None for all of them."""
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return set(module.weight.nonzero().flatten().tolist())
    return None


def describe_module(module: nn.Module) -> str:
    """A module as one line; a PReLU whose units differ says how many of them leak."""
    leaking = leaking_units(module)
    if leaking is not None:
        return f"PReLU(num_parameters={module.num_parameters}), {len(leaking)} of them leak"
    return " ".join(repr(module).split())
