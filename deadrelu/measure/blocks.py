"""All figures of a pre-activation in one trip to memory: each block is read while it lies in the processor's cache.

A block is compared into a float buffer, and the buffer is summed: torch reduces floats many times faster than masks.
Then the outputs are written over the hits, and what is not finite shows in their sum. How a tensor lies in memory
decides how it is cut. All of that is planned once for each layout, and the sums of several calls wait to be added up
together: in a small layer planning and adding would cost more than counting.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deadrelu.measure.figures import Bounds, Figures, Rule, finite_figures, replace_by_outputs
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Features

SHARE = 1 << 18
"""Elements of a block for each thread: its part of the buffer, one megabyte, stays in its own cache."""

KEPT = 1 << 15
"""So many sums of one layout wait to be added up, of at most `CALLS` calls."""

CALLS = 32

EXACT = 1 << 24
"""Below this, float32 holds every whole number."""


class Scratch:
    """A buffer of one block for each type; shared by all sites, since one is measured at a time."""

    def __init__(self, block: int | None = None) -> None:
        """No buffer yet. `block` is its size in elements."""
        self.block = block or SHARE * min(torch.get_num_threads(), 16)
        self._buffers: dict[torch.dtype, Tensor] = {}

    def like(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A dense buffer of this shape, whose content is left over from another."""
        size = math.prod(shape)
        buffer = self._buffers.get(dtype)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[dtype] = torch.empty(max(self.block, size), dtype=dtype)
        return buffer[:size].view(*shape)


class _Place(NamedTuple):
    """What belongs to one block: its buffer, the buffer as its hits are summed, and where the sums go."""

    buffer: Tensor
    marks: Tensor
    hits: Tensor
    outputs: Tensor
    tops: Tensor


class Dense(ABC):
    """Counts what lies densely in memory, seen as a matrix that is cut into blocks.

    The hits of each call wait as `(bands, rows, parts, units)`, to be summed over bands and parts; a row fires where
    that is above 0. Outputs and maxima wait as `(bands, units · width of a sum)`.
    """

    _along = 0
    """The dimension of a block along which outputs are summed."""

    def __init__(self, z: Tensor, x: Tensor, features: Features, rule: Rule, scratch: Scratch) -> None:
        """Plan for pre-activations like `z`, which `by_unit` shows as `x` `(rows, units, positions)`."""
        self.rows, self._units, self.positions = x.shape
        self._features, self._rule, self._scratch = features, rule, scratch
        self._bounds, self._full = Bounds(rule.region, x), rule.stats == "full"
        self._in_order = z.is_contiguous() and x.data_ptr() == z.data_ptr()
        self._dtype = x.dtype if x.dtype is torch.float32 else torch.promote_types(x.dtype, torch.float32)
        self._matrix, self._step = self._cut(scratch.block)
        hits, sums = self._shapes()
        calls = max(1, min(CALLS, KEPT // max(math.prod(hits), math.prod(sums))))
        self._hits = torch.empty((calls, *hits), dtype=self._dtype)
        self._outputs = torch.empty((calls, *sums) if self._full else 0, dtype=self._dtype)
        self._tops = torch.empty_like(self._outputs, dtype=x.dtype)
        self._flat = self._outputs.view(calls, -1).unbind() if self._full else ()
        self._places: list[Sequence[_Place]] = []
        self._filled = 0
        self._odd: list[tuple[Tensor | None, Tensor | None, Tensor]] = []

    @abstractmethod
    def _cut(self, block: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The matrix as which a tensor is seen, and the lines and columns of a block of about so many elements."""

    @abstractmethod
    def _shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """The shapes of the hits, and of the sums of outputs, of one call."""

    @abstractmethod
    def _place(self, call: int, lines: slice, columns: slice) -> _Place:
        """Where the sums of a block go."""

    @property
    def is_full(self) -> bool:
        """Whether as many calls wait as there is room for."""
        return self._filled == len(self._hits)

    def take(self, z: Tensor) -> None:
        """Count one pre-activation."""
        call = self._filled
        self._filled = call + 1
        if call == len(self._places):
            self._places.append([self._place(call, *where) for where in self._blocks()])
        matrix = z.view(self._matrix) if self._in_order else self._reordered(z).reshape(self._matrix)
        for block, (buffer, marks, hits, outputs, tops) in zip(self._pieces(matrix), self._places[call], strict=True):
            self._bounds.mark_hits(block, buffer)
            self._sum_hits(marks, hits)
            if self._full:
                replace_by_outputs(block, self._rule, buffer)
                torch.sum(buffer, self._along, out=outputs)
                torch.amax(block, self._along, out=tops)
        if self._full and not self._is_finite(call):
            self._outputs[call].zero_()
            self._tops[call].fill_(-math.inf)
            self._odd.append(finite_figures(by_unit(z, self._features), self._rule))

    def taken(self) -> Figures | None:
        """The sums by unit, in float64. Of counts, float32 is exact as long as they stay below 2^24."""
        filled, self._filled = self._filled, 0
        if not filled:
            return None
        hits = self._hits[:filled]
        exact = self._dtype if filled * self.rows * self.positions < EXACT else torch.float64
        if hits.shape[1] > 1 or hits.shape[3] > 1:
            hits = hits.sum((1, 3), dtype=exact)
        by_row = hits.view(-1, self._units)
        fires = by_row.sum(0, dtype=exact)
        row_fires = fires if self.positions == 1 else by_row.clamp_(max=1).sum(0)
        if not self._full:
            return Figures(fires, row_fires)
        folded = (-1, self._units, 1 if self._along else self._outputs.shape[2] // self._units)
        outputs = self._outputs[:filled].view(folded).sum(0).sum(1, dtype=torch.float64)
        seen = Figures(fires, row_fires, self._tops[:filled].view(folded).amax(0).amax(1).double(), outputs)
        for odd in self._odd:
            seen.add(*odd)
        self._odd.clear()
        return seen

    def _reordered(self, z: Tensor) -> Tensor:
        """A tensor with its dimensions in the order of the matrix."""
        return by_unit(z, self._features)

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Lines and columns of each block."""
        (lines, width), (high, wide) = self._matrix, self._step
        for line in range(0, lines, high):
            for column in range(0, width, wide):
                yield slice(line, min(line + high, lines)), slice(column, min(column + wide, width))

    def _pieces(self, matrix: Tensor) -> Sequence[Tensor]:
        """The blocks themselves. Most tensors are one, and then the call of split is saved."""
        (lines, width), (high, wide) = self._matrix, self._step
        if wide < width:
            return [matrix[where] for where in self._blocks()]
        return (matrix,) if lines <= high else matrix.split(high)

    def _buffer(self, lines: slice, columns: slice) -> Tensor:
        return self._scratch.like((lines.stop - lines.start, columns.stop - columns.start), self._dtype)

    def _sum_hits(self, marks: Tensor, hits: Tensor) -> None:
        torch.sum(marks, 1, out=hits)

    def _is_finite(self, call: int) -> bool:
        """Whether the sums are finite. Where their squares are not, the values are looked at one by one."""
        sums = self._flat[call]
        return math.isfinite(sums.dot(sums).item())


class Long(Dense):
    """Units one after another, each with many positions: sums along the lines of `(rows · units, positions)`."""

    _along = 1

    def _cut(self, block: int) -> tuple[tuple[int, int], tuple[int, int]]:
        matrix = (self.rows * self._units, self.positions)
        return matrix, (max(1, block // self.positions), min(block, self.positions))

    def _shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        bands = -(-self.positions // self._step[1])
        return (bands, self.rows, 1, self._units), (bands, self.rows * self._units)

    def _place(self, call: int, lines: slice, columns: slice) -> _Place:
        buffer, band = self._buffer(lines, columns), columns.start // self._step[1]
        hits = self._hits[call, band].view(-1)[lines]
        if not self._full:
            return _Place(buffer, buffer, hits, hits, hits)
        return _Place(buffer, buffer, hits, self._outputs[call, band, lines], self._tops[call, band, lines])


class Short(Dense):
    """Units one after another, each with few positions: sums across the lines of `(rows, units · positions)`.

    Hits are summed by a matrix product with ones: torch's own sum over a few neighbours is slow.
    """

    def _cut(self, block: int) -> tuple[tuple[int, int], tuple[int, int]]:
        width = self._units * self.positions
        wide = min(width, max(1, block // self.positions) * self.positions)
        high = max(1, block // width)
        self._ones = torch.ones(self.positions if self.positions > 1 else min(high, self.rows), dtype=self._dtype)
        return (self.rows, width), (high, wide)

    def _shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        bands = -(-self.rows // self._step[0])
        return (1, self.rows if self.positions > 1 else bands, 1, self._units), (bands, self._matrix[1])

    def _place(self, call: int, lines: slice, columns: slice) -> _Place:
        buffer, band = self._buffer(lines, columns), lines.start // self._step[0]
        hits = self._hits[call, 0, :, 0, columns.start // self.positions : columns.stop // self.positions]
        if self.positions == 1:
            marks, hits = buffer.t(), hits[band]
        else:
            marks, hits = buffer.view(-1, self.positions), hits[lines].view(-1)
        if not self._full:
            return _Place(buffer, marks, hits, hits, hits)
        return _Place(buffer, marks, hits, self._outputs[call, band, columns], self._tops[call, band, columns])

    def _sum_hits(self, marks: Tensor, hits: Tensor) -> None:
        ones = self._ones if len(self._ones) == marks.shape[1] else self._ones[: marks.shape[1]]
        torch.mv(marks, ones, out=hits)


class Across(Dense):
    """Positions one after another, each with all units: sums down the columns of `(rows · positions, units)`.

    A block is several whole rows, or a part of one.
    """

    def _cut(self, block: int) -> tuple[tuple[int, int], tuple[int, int]]:
        rows = block // (self.positions * self._units)
        self._part = self.positions if rows else max(1, block // self._units)
        return (self.rows * self.positions, self._units), (max(rows, 1) * self._part, self._units)

    def _shapes(self) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        parts = -(-self.positions // self._part)
        return (1, self.rows, parts, self._units), (len(list(self._blocks())), self._units)

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        if self._part == self.positions:
            yield from super()._blocks()
            return
        for row in range(0, self._matrix[0], self.positions):
            for at in range(0, self.positions, self._part):
                yield slice(row + at, row + min(at + self._part, self.positions)), slice(0, self._units)

    def _pieces(self, matrix: Tensor) -> Sequence[Tensor]:
        return super()._pieces(matrix) if self._part == self.positions else [matrix[at] for at in self._blocks()]

    def _reordered(self, z: Tensor) -> Tensor:
        return by_unit(z, self._features).transpose(1, 2)

    def _place(self, call: int, lines: slice, columns: slice) -> _Place:
        buffer, (row, at) = self._buffer(lines, columns), divmod(lines.start, self.positions)
        marks = buffer.view(-1, min(len(buffer), self.positions), self._units)
        part = at // self._part
        hits = self._hits[call, 0, row : row + len(marks), part]
        if not self._full:
            return _Place(buffer, marks, hits, hits, hits)
        band = row // (self._step[0] // self._part) * self._hits.shape[3] + part
        return _Place(buffer, marks, hits, self._outputs[call, band], self._tops[call, band])
