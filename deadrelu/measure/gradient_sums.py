"""Sums gradients by unit, exactly enough for those that have nearly vanished and for those that overflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.measure.figures import BLOCK
from deadrelu.report.gradients import GradientSums

_LEAST = {torch.float32: 1e-25, torch.float64: 1e-280}
"""Below this a sum of squares may lack some that underflowed. What it lacks otherwise is less than rounding."""

_SMALL = 1 << 17
"""Up to so many elements, one pass in float64 is faster than one in float32 and a second look at what underflowed."""


@dataclass
class UnitSums:
    """The sums of one site, with an entry a unit; all are float64, but for `is_zero`."""

    squares: Tensor
    is_zero: Tensor
    sizes: Tensor
    knows_outputs: bool = True

    @classmethod
    def zeros(cls, units: int, device: torch.device) -> UnitSums:
        """Nothing summed: every gradient so far is zero."""
        squares, sizes = torch.zeros(2, units, dtype=torch.float64, device=device)
        return cls(squares, torch.ones(units, dtype=torch.bool, device=device), sizes)

    def add_inputs(self, x: Tensor) -> None:
        """Add the gradients at pre-activations, as `by_unit` shows them: `(rows, units, positions)`."""
        x = _wide(x)
        if not x.is_cpu:  # nothing waits for the device
            squares = torch.linalg.vector_norm(x, dim=(0, 2), dtype=torch.float64).square()
            self.squares += squares
            self.is_zero &= (x == 0).all(2).all(0)
            return
        if x.dtype is torch.float32 and x.numel() <= _SMALL:
            squares = x.double().square_().sum((0, 2))
            self.squares += squares
            self.is_zero &= squares == 0  # no square of a float32 underflows in float64
            return
        squares = _by_unit(x, _square_rows, _square_lines)
        least, most = torch.aminmax(squares)
        if least.item() >= _LEAST[x.dtype] and most.item() < math.inf:
            self.squares += squares
            self.is_zero.zero_()
            return
        odd = (squares < _LEAST[x.dtype]).logical_or_(squares == math.inf)
        is_zero = squares == 0
        if odd.any():
            units = odd.nonzero().squeeze(1)
            part = x.index_select(1, units).double()
            squares = squares.double().index_copy_(0, units, part.square().sum((0, 2)))
            is_zero.index_copy_(0, units, (part == 0).all(2).all(0))
        self.squares += squares
        self.is_zero &= is_zero

    def add_outputs(self, x: Tensor) -> None:
        """Add the gradients at outputs."""
        self.sizes += _by_unit(_wide(x), _add_rows, _add_lines)

    def compute(self) -> GradientSums:
        """The sums as plain numbers."""
        return GradientSums(
            squares=tuple(self.squares.tolist()),
            is_zero=tuple(self.is_zero.tolist()),
            sizes=tuple(self.sizes.tolist()) if self.knows_outputs else None,
        )


def _wide(x: Tensor) -> Tensor:
    """The gradient in a type in which it can be squared."""
    return x if x.dtype in _LEAST else x.float()


def _by_unit(x: Tensor, rows: Callable[[Tensor], Tensor], lines: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over all but the units: by `rows` where the units lie beside each other in memory, by `lines` elsewhere."""
    if not x.is_cpu:
        return rows(x.transpose(1, 2).reshape(-1, x.shape[1]))
    if x.shape[2] > 1 and x.stride(1) != 1:
        return lines(x)
    flat = x.squeeze(2) if x.shape[2] == 1 else x.transpose(1, 2).reshape(-1, x.shape[1])
    if flat.numel() <= BLOCK:
        return rows(flat)
    blocks = flat.split(max(1, BLOCK // max(1, x.shape[1])))  # what is made of each stays in the cache
    return torch.stack([rows(block) for block in blocks]).sum(0)


def _square_rows(x: Tensor) -> Tensor:
    return x.square().sum(0)


def _square_lines(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=2)
    return norms.square_().sum(0)


def _add_rows(x: Tensor) -> Tensor:
    return x.abs().sum(0)


def _add_lines(x: Tensor) -> Tensor:
    """Not by a norm of order 1, which torch does not vectorise (seen on 2.13.0)."""
    blocks = x.split(max(1, BLOCK // max(1, x[:1].numel())))
    return torch.cat([block.abs().sum(2) for block in blocks]).sum(0)
