"""All figures of a pre-activation in one trip to memory: each piece is read while it lies in the processor's cache.

A piece is compared into a small float buffer, and the buffer is summed: torch reduces floats many times faster than
masks. The output is multiplied into a second buffer, and what is not finite shows in its sum. Which dimension lies
densely in memory decides how a tensor is cut; that is planned once for each shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.activations import Parameters, Region
from deadrelu.programs.program import Features

Stats = Literal["fired", "rates", "full"]
"""How much is measured: which units fired at all; how often; and how high, how large, and whether all is finite."""

PIECE = 1 << 17
"""Elements of a piece: its buffer, half a megabyte, stays in the cache while it is written and summed."""

LONG = 64
"""From so many positions a row on, torch's sum along the row is fast; below, it is summed across the rows."""


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
    and hold only the finite values; `nonfinite` is None where every value is finite.
    """

    fires: Tensor
    row_fires: Tensor
    maxima: Tensor | None = None
    output_sums: Tensor | None = None
    nonfinite: Tensor | None = None


class Scratch:
    """Two buffers of one piece, by type; shared by all sites, since one is measured at a time."""

    def __init__(self) -> None:
        """No buffer yet."""
        self._buffers: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def pair(self, dtype: torch.dtype, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Two buffers of `shape`; a row longer than a piece gets its own."""
        size = math.prod(shape)
        if size > PIECE:
            return torch.empty(tuple(shape), dtype=dtype), torch.empty(tuple(shape), dtype=dtype)
        if dtype not in self._buffers:
            self._buffers[dtype] = (torch.empty(PIECE, dtype=dtype), torch.empty(PIECE, dtype=dtype))
        first, second = self._buffers[dtype]
        return first[:size].view(shape), second[:size].view(shape)


def by_unit(z: Tensor, features: Features) -> Tensor:
    """View `z` as `(rows, units, positions)`, without a copy wherever its strides allow it.

    `(N, C, H, W)`, channels-last or not, becomes `(N, C, H·W)`; `(N, T, F)` becomes `(N, F, T)`; `(N, F)` becomes
    `(N, F, 1)`; features on dimension 0 (an input without a batch) make one row.
    """
    axes = sorted(axis % z.ndim for axis in features.axes)
    if axes[0] == 0:
        z, axes = z.unsqueeze(0), [axis + 1 for axis in axes]
    if len(axes) > 1 or axes[0] != 1:
        z = z.movedim(axes, list(range(1, len(axes) + 1))).flatten(1, len(axes))
    return z.unsqueeze(2) if z.ndim == 2 else z.flatten(2)


def figures(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """The figures of `x` `(rows, units, positions)`, its units or its positions dense in memory; any other is copied.

    On a GPU everything is taken at once and nothing waits for the device.
    """
    _rows, units, positions = x.shape
    if x.numel() == 0:
        zero = torch.zeros(units, dtype=torch.float64, device=x.device)
        return Figures(zero, zero.clone())
    if x.device.type != "cpu":
        return _at_once(x, rule)
    if x.is_contiguous():
        out = _long(x, rule, scratch) if positions >= LONG else _short(x, rule, scratch)
    else:
        across = x.transpose(1, 2)
        out = _across(across if across.is_contiguous() else across.contiguous(), rule, scratch)
    if out.output_sums is not None and not math.isfinite(out.output_sums.sum().item()):
        return _careful(x, rule, out)
    return out


def _long(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Units one after another, each with many positions: sums along the rows of a `(rows · units, positions)` view."""
    rows, units, positions = x.shape
    flat = x.view(rows * units, positions)
    parts = _Parts(rows * units, x, rule)
    for start, piece in _cut(flat, positions):
        end = start + len(piece)
        hits, outputs = scratch.pair(parts.wide, piece.shape)
        _hits(piece, rule.region, hits)
        torch.sum(hits, 1, out=parts.hits[start:end])
        if parts.full:
            torch.sum(_outputs(piece, rule, hits, outputs), 1, out=parts.outputs[start:end])
            torch.amax(piece, 1, out=parts.tops[start:end])
    per_row = parts.hits.view(rows, units)
    return parts.figures(per_row, per_row, parts.outputs.view(-1, units), parts.tops.view(-1, units))


def _short(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Units one after another, each with few positions: sums across the rows of a `(rows, units · positions)` view."""
    rows, units, positions = x.shape
    columns = units * positions
    flat = x.view(rows, columns)
    pieces = _cut(flat, columns)
    parts = _Parts((len(pieces), columns), x, rule)
    per_row = torch.empty(rows, units, dtype=parts.wide)
    ones = torch.ones(positions, dtype=parts.wide)
    for number, (start, piece) in enumerate(pieces):
        hits, outputs = scratch.pair(parts.wide, piece.shape)
        _hits(piece, rule.region, hits)
        torch.sum(hits, 0, out=parts.hits[number])
        if positions > 1:  # a matrix product: torch's own sum over a few neighbours is slow
            torch.mv(hits.view(-1, positions), ones, out=per_row[start : start + len(piece)].view(-1))
        if parts.full:
            torch.sum(_outputs(piece, rule, hits, outputs), 0, out=parts.outputs[number])
            torch.amax(piece, 0, out=parts.tops[number])
    folded = (part.view(-1, units, positions) for part in (parts.hits, parts.outputs, parts.tops))
    hits, outputs, tops = (part.movedim(2, 1).reshape(-1, units) if positions > 1 else part[..., 0] for part in folded)
    return parts.figures(hits, per_row if positions > 1 else None, outputs, tops)


def _across(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Positions one after another, each with all units (`(rows, positions, units)`): sums down the columns."""
    rows, positions, units = x.shape
    size = positions * units
    if positions == 1:
        return _short(x.view(rows, units, 1), rule, scratch)
    if size > PIECE:  # one row at a time, and that in pieces
        return _summed_up([_across_row(row, rule, scratch) for row in x])
    pieces = _cut(x, size)
    parts = _Parts((len(pieces), units), x, rule)
    per_row = torch.empty(rows, units, dtype=parts.wide)
    for number, (start, piece) in enumerate(pieces):
        hits, outputs = scratch.pair(parts.wide, piece.shape)
        _hits(piece, rule.region, hits)
        torch.sum(hits, 1, out=per_row[start : start + len(piece)])
        if parts.full:
            torch.sum(_outputs(piece, rule, hits, outputs).view(-1, units), 0, out=parts.outputs[number])
            torch.amax(piece.view(-1, units), 0, out=parts.tops[number])
    return parts.figures(per_row, per_row, parts.outputs, parts.tops)


def _across_row(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """One row `(positions, units)`: a row fires where any of its positions does."""
    out = _short(x.unsqueeze(2), rule, scratch)
    out.row_fires = (out.fires > 0).double()
    return out


def _summed_up(parts: list[Figures]) -> Figures:
    """The figures of several rows."""

    def total(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        if values[0] is None:
            return None
        stacked = torch.stack(values)
        return stacked.amax(0) if name == "maxima" else stacked.sum(0)

    fires, row_fires = total("fires"), total("row_fires")
    assert fires is not None
    assert row_fires is not None
    return Figures(fires, row_fires, total("maxima"), total("output_sums"))


class _Parts:
    """Where the pieces leave their sums, so that they are added up once, in float64."""

    def __init__(self, shape: int | tuple[int, ...], x: Tensor, rule: Rule) -> None:
        self.wide = torch.promote_types(x.dtype, torch.float32)
        self.full = rule.stats == "full"
        self.hits = torch.empty(shape, dtype=self.wide)
        self.outputs = torch.empty(shape if self.full else 0, dtype=self.wide)
        self.tops = torch.empty(shape if self.full else 0, dtype=x.dtype)

    def figures(self, hits: Tensor, per_row: Tensor | None, outputs: Tensor, tops: Tensor) -> Figures:
        """The sums down the columns of the parts; `per_row` holds the hits of each row, None if rows are positions."""
        fires = hits.sum(0, dtype=torch.float64)
        row_fires = fires
        if per_row is not None:
            row_fires = torch.gt(per_row, 0, out=torch.empty_like(per_row)).sum(0, dtype=torch.float64)
        if not self.full:
            return Figures(fires, row_fires)
        return Figures(fires, row_fires, tops.amax(0), outputs.sum(0, dtype=torch.float64))


def _cut(x: Tensor, size: int) -> list[tuple[int, Tensor]]:
    """Pieces along the first dimension, whose entries have `size` elements, each with where it begins."""
    step = max(1, PIECE // size)
    return [(start, x[start : start + step]) for start in range(0, len(x), step)]


def _hits(piece: Tensor, region: Region, out: Tensor) -> None:
    """1.0 where a unit fires, else 0.0. NaN compares false, so that it never counts as firing."""
    if region.outside:
        torch.gt(piece, region.high, out=out)
        out.add_(torch.lt(piece, region.low))
        return
    torch.gt(piece, region.low, out=out)
    if not math.isinf(region.high):
        out.mul_(torch.lt(piece, region.high))


def _outputs(piece: Tensor, rule: Rule, hits: Tensor, out: Tensor) -> Tensor:
    """The size of the outputs; a value that is not finite makes its sum not finite.

    For a ReLU it is pre-activation times hit, where −inf · 0 is NaN. The others hide what they cut off, so that it is
    put back in.
    """
    if rule.op == "relu":
        return torch.mul(piece, hits, out=out)
    torch.abs(activated(piece, rule), out=out)
    if not math.isfinite(piece.sum(dtype=out.dtype).item()):
        out.add_(piece.to(out.dtype).mul(0))  # NaN wherever the pre-activation is not finite, else nothing
    return out


def activated(piece: Tensor, rule: Rule) -> Tensor:
    """What the activation makes of a pre-activation, out of place."""
    p = rule.parameters
    match rule.op:
        case "relu":
            return piece.clamp_min(0)
        case "relu6":
            return piece.clamp(0, 6)
        case "hardtanh":
            return piece.clamp(p[0], p[1])
        case "threshold":
            return F.threshold(piece, p[0], p[1])
        case "hardswish":
            return F.hardswish(piece)
        case "hardsigmoid":
            return F.hardsigmoid(piece)
        case "hardshrink":
            return F.hardshrink(piece, p[0])
        case "softshrink":
            return F.softshrink(piece, p[0])
    raise ValueError(f"no output is known for {rule.op}")


def _careful(x: Tensor, rule: Rule, out: Figures) -> Figures:
    """The same with the values that are not finite counted apart: the counts of firing are right already."""
    finite = x.isfinite()
    outputs = activated(x, rule).abs().where(finite, 0.0)
    return Figures(
        fires=out.fires,
        row_fires=out.row_fires,
        maxima=x.where(finite, -math.inf).amax((0, 2)),
        output_sums=outputs.sum((0, 2), dtype=torch.float64),
        nonfinite=finite.logical_not_().sum((0, 2), dtype=torch.float64),
    )


def _at_once(x: Tensor, rule: Rule) -> Figures:
    """Everything in whole-tensor operations, for a device that has no use for pieces; no value is read back."""
    wide = torch.promote_types(x.dtype, torch.float32)
    hits = torch.empty(x.shape, dtype=wide, device=x.device)
    _hits(x, rule.region, hits)
    per_row = hits.sum(2, dtype=torch.float64)
    out = Figures(per_row.sum(0), (per_row > 0).sum(0, dtype=torch.float64))
    return _careful(x, rule, out) if rule.stats == "full" else out
