"""Where the units of one site fire, and what it means where they do not: dead, or saturated."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.activations import BY_NAME
from deadrelu.flatness import Parameters, Region
from deadrelu.programs.program import CallSite, Features


class Firing:
    """Where a unit fires; of a PReLU each unit may have a region of its own.

    `is_rectified`: a unit is dead where it does not fire. `zero` is the one pre-activation at which the derivative is
    exactly zero, if there is one. `has_high`: one of the flat parts reaches +∞.
    """

    def __init__(self, site: CallSite, features: Features, z: Tensor, saturated_below: float) -> None:
        """For pre-activations like `z`. Raises `ValueError` where parameters by unit do not run along the units."""
        kind = BY_NAME[site.op]
        self.op, self.parameters = site.op, site.parameters
        self.is_rectified, self.zero = kind.region is not None, kind.zero
        self._weights: Tensor | None = None
        if len(site.parameters) <= len(kind.defaults):
            self.region = kind.firing(site.parameters, saturated_below)
            self.low: float | Tensor = self.region.low
            self.has_high = not (self.is_rectified or self.region.outside or math.isinf(self.region.high))
            return
        if [axis % z.ndim for axis in features.axes] != [1] or z.shape[1] != len(site.parameters):
            raise ValueError(f"the weights of its {site.op} run along dimension 1, which does not hold its units")
        self._weights = torch.tensor(site.parameters, dtype=torch.float64, device=z.device)
        lows = [kind.firing((weight,), saturated_below).low for weight in site.parameters]
        self.region, self.has_high = Region(min(lows)), False
        self.low = torch.tensor(lows, dtype=z.dequantize().dtype, device=z.device)[:, None]

    def can_saturate(self, stationary: Tensor, positions: int) -> Tensor | bool:
        """Which units are not dead where they fire nowhere: the derivative is not exactly zero at each position."""
        if self.is_rectified:
            return False
        if self.zero is not None:
            return stationary != positions
        return True if self._weights is None else self._weights != 0

    def outputs(self, x: Tensor) -> Tensor:
        """What the activation makes of pre-activations `(rows, units, positions)`, a new tensor."""
        return activate(x, self.op, self.parameters)


def activate(z: Tensor, op: str, parameters: Parameters) -> Tensor:
    """The output of an activation, a new tensor; parameters by unit run along dimension 1."""
    kind = BY_NAME[op]
    if kind.defaults == {"weight": None}:
        return F.prelu(z, z.new_tensor(parameters))
    output: Tensor = getattr(F, kind.output or kind.name)(z, **dict(zip(kind.defaults, parameters, strict=False)))
    return output
