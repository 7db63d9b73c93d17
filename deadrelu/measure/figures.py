"""What is counted at a site: where its units fire, what they put out, what is not finite; on whole tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.activations import Parameters, Region
from deadrelu.report import Stats


@dataclass(frozen=True)
class Rule:
    """What to count at a site: its activation, with the region in which a unit fires."""

    op: str
    parameters: Parameters
    region: Region
    stats: Stats


@dataclass
class Figures:
    """What one tensor adds to the counters of a site, one entry a unit; counts are whole numbers in some float.

    `fires` and `row_fires` count positions and rows; `maxima` and `output_sums` are None unless the stats are full,
    and hold only the finite values; `nonfinite` is None where every value is finite, or none was looked for.
    """

    fires: Tensor
    row_fires: Tensor
    maxima: Tensor | None = None
    output_sums: Tensor | None = None
    nonfinite: Tensor | None = None

    def add(self, maxima: Tensor | None, output_sums: Tensor | None, nonfinite: Tensor) -> None:
        """Add the figures of a tensor whose firing is counted already."""
        self.nonfinite = nonfinite if self.nonfinite is None else self.nonfinite + nonfinite
        if self.maxima is not None and maxima is not None:
            self.maxima = torch.maximum(self.maxima, maxima)
        if self.output_sums is not None and output_sums is not None:
            self.output_sums = self.output_sums + output_sums


class Bounds:
    """The ends of a region as tensors without dimensions: torch compares with them faster than with numbers."""

    def __init__(self, region: Region, like: Tensor) -> None:
        """The ends in the type and on the device of `like`, as torch would round the numbers themselves."""
        dtype = torch.float32 if like.is_quantized else like.dtype
        self.low = torch.tensor(region.low, dtype=dtype, device=like.device)
        self.high = torch.tensor(region.high, dtype=dtype, device=like.device)
        self._low, self._high = self.low.item(), self.high.item()
        self.has_high = not math.isinf(region.high)
        self.outside = region.outside

    def mark_hits(self, z: Tensor, out: Tensor) -> None:
        """Write 1.0 where a unit fires, else 0.0. NaN compares false, so that it never counts as firing."""
        if self.outside:
            torch.gt(z, self.high, out=out)
            out.add_(torch.lt(z, self.low))
            return
        torch.gt(z, self.low, out=out)
        if self.has_high:
            out.mul_(torch.lt(z, self.high))

    def shuts_out(self, x: Tensor) -> bool:
        """Whether nothing in `x` fires and all of it is finite, as far as the smallest and largest value tell."""
        if not x.numel():
            return True
        least, most = (value.item() for value in torch.aminmax(x))
        if self.outside:
            return bool(self._low <= least and most <= self._high)  # NaN is neither
        return bool(-math.inf < least and most <= self._low)


def replace_by_outputs(z: Tensor, rule: Rule, hits: Tensor) -> None:
    """Overwrite the hits with the size of the outputs; a value that is not finite makes its sum not finite.

    For a ReLU it is pre-activation times hit, where −inf · 0 is NaN. The others hide what they cut off, so that it is
    put back in.
    """
    if rule.op == "relu":
        torch.mul(z, hits, out=hits)
        return
    hits.copy_(activated(z, rule)).abs_()
    if not math.isfinite(z.sum(dtype=hits.dtype).item()):
        hits.add_(z.to(hits.dtype).mul(0))  # NaN wherever the pre-activation is not finite, else nothing


def activated(z: Tensor, rule: Rule) -> Tensor:
    """What the activation makes of a pre-activation, out of place."""
    p = rule.parameters
    match rule.op:
        case "relu":
            return z.clamp_min(0)
        case "relu6":
            return z.clamp(0, 6)
        case "hardtanh":
            return z.clamp(p[0], p[1])
        case "threshold":
            return F.threshold(z, p[0], p[1])
        case "hardswish":
            return F.hardswish(z)
        case "hardsigmoid":
            return F.hardsigmoid(z)
        case "hardshrink":
            return F.hardshrink(z, p[0])
        case "softshrink":
            return F.softshrink(z, p[0])
    raise ValueError(f"no output is known for {rule.op}")


def finite_figures(x: Tensor, rule: Rule) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Maxima and output sums of what is finite in `x` `(rows, units, positions)`, and how much is not, by unit."""
    finite = x.isfinite()
    maxima = sums = None
    if rule.stats == "full":
        maxima = x.where(finite, -math.inf).amax((0, 2)).double()
        sums = activated(x, rule).abs().where(finite, 0.0).sum((0, 2), dtype=torch.float64)
    return maxima, sums, finite.logical_not_().sum((0, 2), dtype=torch.float64)


def at_once(x: Tensor, rule: Rule) -> Figures:
    """The figures of `x` in whole-tensor operations, for a device that has no use for blocks; no value is read back."""
    hits = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    Bounds(rule.region, x).mark_hits(x, hits)
    per_row = hits.sum(2, dtype=torch.float64)
    return Figures(per_row.sum(0), (per_row > 0).sum(0, dtype=torch.float64), *finite_figures(x, rule))
