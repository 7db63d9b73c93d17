"""All figures of a pre-activation in one trip to memory: each piece is read while it lies in the processor's cache.

A piece is compared into a float buffer, and the buffer is summed: torch reduces floats many times faster than masks.
Then the outputs are written over the hits, and what is not finite shows in their sum. Which dimension lies densely in
memory decides how a tensor is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from deadrelu.measure.figures import Figures, Rule, at_once, mark_hits, replace_by_outputs, with_nonfinite
from deadrelu.programs.program import Features

PIECE = 1 << 18
"""Elements of a piece: its buffer, one megabyte, stays in the cache, and few enough pieces keep Python out of it."""

LONG = 64
"""From so many positions a row on, torch's sum along the row is fast; below, it is summed across the rows."""

WIDE = 1 << 13
"""Columns that are summed across the rows at once; with more, a piece would have too few rows to sum over."""


class Scratch:
    """A buffer of one piece for each type; shared by all sites, since one is measured at a time."""

    def __init__(self) -> None:
        """No buffer yet."""
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._ones: dict[tuple[int, torch.dtype], Tensor] = {}

    def like(self, piece: Tensor, dtype: torch.dtype) -> Tensor:
        """A dense buffer in the shape of `piece`, whose content is left over from another."""
        buffer = self._buffers.get(dtype)
        if buffer is None or buffer.numel() < piece.numel():
            buffer = self._buffers[dtype] = torch.empty(max(PIECE, piece.numel()), dtype=dtype)
        return buffer[: piece.numel()].view(piece.shape)

    def ones(self, size: int, dtype: torch.dtype) -> Tensor:
        """A vector of ones, fewer than `LONG`, for sums by a matrix product."""
        if (size, dtype) not in self._ones:
            self._ones[size, dtype] = torch.ones(size, dtype=dtype)
        return self._ones[size, dtype]


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
        return at_once(x, rule)
    if x.is_contiguous():
        out = _long(x, rule, scratch) if positions >= LONG else _short(x, rule, scratch)
    else:
        across = x.transpose(1, 2)
        out = _across(across if across.is_contiguous() else across.contiguous(), rule, scratch)
    if out.output_sums is not None and not math.isfinite(out.output_sums.sum().item()):
        return with_nonfinite(x, rule, out)
    return out


def _long(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Units one after another, each with many positions: sums along the rows of a `(rows · units, positions)` view."""
    rows, units, positions = x.shape
    spans = _cut(x.view(rows * units, positions), PIECE, 1)  # one, unless a row is longer than a piece
    parts = _Parts(len(spans), rows * units, x, rule)
    for band, span in enumerate(spans):
        for piece, hits, outputs, tops in parts.places(band, _cut(span, max(1, PIECE // positions), 0), 0):
            buffer = scratch.like(piece, parts.dtype)
            mark_hits(piece, rule.region, buffer)
            torch.sum(buffer, 1, out=hits)
            if parts.full:
                replace_by_outputs(piece, rule, buffer)
                torch.sum(buffer, 1, out=outputs)
                torch.amax(piece, 1, out=tops)
    return parts.figures((-1, units, 1), parts.hits.sum(0).view(rows, units))


def _short(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Units one after another, each with few positions: sums across the rows of a `(rows, units · positions)` view."""
    rows, units, positions = x.shape
    width = min(units, max(1, WIDE // positions)) * positions
    bands = _cut(x.view(rows, units * positions), max(1, PIECE // width), 0)
    parts = _Parts(len(bands), units * positions, x, rule)
    per_row: Tensor | None = None
    ones = scratch.ones(positions, parts.dtype)
    row = 0
    for band, whole in enumerate(bands):
        unit = 0
        for piece, hits, outputs, tops in parts.places(band, _cut(whole, width, 1), 1):
            buffer = scratch.like(piece, parts.dtype)
            mark_hits(piece, rule.region, buffer)
            torch.sum(buffer, 0, out=hits)
            if positions > 1:  # a matrix product: torch's own sum over a few neighbours is slow
                found = torch.mv(buffer.view(-1, positions), ones).view(len(piece), -1)
                if found.shape == (rows, units):
                    per_row = found
                else:
                    per_row = torch.empty(rows, units, dtype=parts.dtype) if per_row is None else per_row
                    per_row[row : row + len(piece), unit : unit + found.shape[1]] = found
                    unit += found.shape[1]
            if parts.full:
                replace_by_outputs(piece, rule, buffer)
                torch.sum(buffer, 0, out=outputs)
                torch.amax(piece, 0, out=tops)
        row += len(whole)
    return parts.figures((-1, units, positions), per_row)


def _across(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """Positions one after another, each with all units (`(rows, positions, units)`): sums down the columns."""
    rows, positions, units = x.shape
    if positions == 1:
        return _short(x.view(rows, units, 1), rule, scratch)
    if positions * units > PIECE:  # one row at a time, and that in pieces
        return _summed_up([_across_row(row, rule, scratch) for row in x])
    pieces = _cut(x, PIECE // (positions * units), 0)
    parts = _Parts(len(pieces), units, x, rule)
    per_row = torch.empty(rows, units, dtype=parts.dtype)
    for band, (piece, hits) in enumerate(zip(pieces, _cut(per_row, len(pieces[0]), 0), strict=True)):
        buffer = scratch.like(piece, parts.dtype)
        mark_hits(piece, rule.region, buffer)
        torch.sum(buffer, 1, out=hits)
        if parts.full:
            replace_by_outputs(piece, rule, buffer)
            torch.sum(buffer.view(-1, units), 0, out=parts.outputs[band])
            torch.amax(piece.view(-1, units), 0, out=parts.tops[band])
    parts.hits = per_row
    return parts.figures((-1, units, 1), per_row)


def _across_row(x: Tensor, rule: Rule, scratch: Scratch) -> Figures:
    """One row `(positions, units)`: a row fires where any of its positions does."""
    out = _short(x.unsqueeze(2), rule, scratch)
    out.row_fires = (out.fires > 0).double()
    return out


def _summed_up(parts: list[Figures]) -> Figures:
    """The figures of several rows."""
    out = parts[0]
    for part in parts[1:]:
        out.fires += part.fires
        out.row_fires += part.row_fires
        if out.maxima is not None and part.maxima is not None:
            out.maxima = torch.maximum(out.maxima, part.maxima)
        if out.output_sums is not None and part.output_sums is not None:
            out.output_sums += part.output_sums
    return out


def _cut(x: Tensor, step: int, dim: int) -> Sequence[Tensor]:
    """Pieces of `step` along a dimension. Most tensors are one piece, and then the call of split is saved."""
    return (x,) if x.shape[dim] <= step else x.split(step, dim)


class _Parts:
    """Where the pieces leave their sums, `(bands, columns)`, so that they are added up once, in float64."""

    def __init__(self, bands: int, columns: int, x: Tensor, rule: Rule) -> None:
        """Space for the sums of `x`."""
        self.dtype = x.dtype if x.dtype is torch.float32 else torch.promote_types(x.dtype, torch.float32)
        self.full = rule.stats == "full"
        self.hits = torch.empty(bands, columns, dtype=self.dtype)
        self.outputs = torch.empty(bands, columns, dtype=self.dtype) if self.full else self.hits
        self.tops = torch.empty(bands, columns, dtype=x.dtype) if self.full else self.hits

    def places(
        self, band: int, pieces: Sequence[Tensor], along: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Each piece of a band, cut `along` a dimension, with the places of its hits, outputs and maxima."""
        step = pieces[0].shape[along]
        sums = (_cut(sums[band], step, 0) for sums in (self.hits, self.outputs, self.tops))
        return zip(pieces, *sums, strict=True)

    def figures(self, folded: tuple[int, int, int], per_row: Tensor | None) -> Figures:
        """The sums by unit: a view of `folded` shape has the units in the middle.

        `per_row` `(rows, units)` holds the hits of each row; None where each row is one position.
        """
        fires = self.hits.view(folded).sum((0, 2), dtype=torch.float64)
        row_fires = fires if per_row is None else per_row.gt(0).sum(0, dtype=torch.float64)
        if not self.full:
            return Figures(fires, row_fires)
        outputs = self.outputs.view(folded).sum((0, 2), dtype=torch.float64)
        return Figures(fires, row_fires, self.tops.view(folded).amax((0, 2)), outputs)
