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
    """What one tensor adds to the counters of a site, one entry a unit, in float64 (exact for the counts).

    `fires` and `row_fires` count positions and rows; `maxima` and `output_sums` are None unless the stats are full,
    and hold only the finite values; `nonfinite` is None where every value is finite, or none was looked for.
    """

    fires: Tensor
    row_fires: Tensor
    maxima: Tensor | None = None
    output_sums: Tensor | None = None
    nonfinite: Tensor | None = None


def mark_hits(z: Tensor, region: Region, out: Tensor) -> None:
    """Write 1.0 where a unit fires, else 0.0. NaN compares false, so that it never counts as firing."""
    if region.outside:
        torch.gt(z, region.high, out=out)
        out.add_(torch.lt(z, region.low))
        return
    torch.gt(z, region.low, out=out)
    if not math.isinf(region.high):
        out.mul_(torch.lt(z, region.high))


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


def with_nonfinite(x: Tensor, rule: Rule, seen: Figures) -> Figures:
    """The figures of `x` `(rows, units, positions)` with the values that are not finite counted apart.

    The counts of firing are right already.
    """
    finite = x.isfinite()
    out = Figures(seen.fires, seen.row_fires)
    if rule.stats == "full":
        out.maxima = x.where(finite, -math.inf).amax((0, 2))
        out.output_sums = activated(x, rule).abs().where(finite, 0.0).sum((0, 2), dtype=torch.float64)
    out.nonfinite = finite.logical_not_().sum((0, 2), dtype=torch.float64)
    return out


def at_once(x: Tensor, rule: Rule) -> Figures:
    """The figures of `x` in whole-tensor operations, for a device that has no use for pieces; no value is read back."""
    hits = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    mark_hits(x, rule.region, hits)
    per_row = hits.sum(2, dtype=torch.float64)
    seen = Figures(per_row.sum(0), (per_row > 0).sum(0, dtype=torch.float64))
    return with_nonfinite(x, rule, seen)
