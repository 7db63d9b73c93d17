"""The only state of a scan: per site, per unit counters that add."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.activations import Parameters, Region
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Counts

CHUNK = 1 << 17
"""Elements of one piece: its buffer (half a megabyte) stays in a processor's cache while it is written and summed."""

OUTPUTS: dict[str, Callable[[Tensor, Parameters], Tensor]] = {
    "relu": lambda z, _: z.clamp_min(0),
    "relu6": lambda z, _: z.clamp(0, 6),
    "hardtanh": lambda z, p: z.clamp(p[0], p[1]),
    "threshold": lambda z, p: F.threshold(z, p[0], p[1]),
    "hardswish": lambda z, _: F.hardswish(z),
    "hardsigmoid": lambda z, _: F.hardsigmoid(z),
    "hardshrink": lambda z, p: F.hardshrink(z, p[0]),
    "softshrink": lambda z, p: F.softshrink(z, p[0]),
}
"""What each activation makes of a pre-activation, out of place: the dormancy score needs the size of the output."""


class UncountableError(Exception):
    """The pre-activation has no units, or not the same ones as before, so that counters would mean nothing."""


class Tally:
    """Counters of one site, `units` entries each, on the device of the pre-activations; integers are int64."""

    def __init__(self, site: CallSite, features: Features, z: Tensor) -> None:
        """Zeroed counters for pre-activations like `z`. Raises `UncountableError` if that is a scalar."""
        self.site = site
        self.features = features
        if z.ndim == 0:
            raise UncountableError("its pre-activation is a single number, which has no feature axis")
        x = by_unit(z, features)
        self.units = x.shape[1]
        self.shape: tuple[int | str, ...] = ()
        self.axis = 0
        self.samples = self.rows = self.positions = 0
        self._fires = torch.zeros(self.units, dtype=torch.int64, device=z.device)
        self._row_fires = self._fires.clone()
        self._nonfinite = self._fires.clone()
        self._maxima = torch.full((self.units,), -math.inf, dtype=torch.float64, device=z.device)
        self._output_sums = torch.zeros(self.units, dtype=torch.float64, device=z.device)

    def add(self, z: Tensor, samples: int) -> None:
        """Count one pre-activation, of `samples` independent samples.

        Raises `UncountableError` where the feature axis has another length than before.
        """
        if z.is_quantized:
            z = z.dequantize()
        x = by_unit(z, self.features)
        if x.shape[1] != self.units:
            raise UncountableError(f"its feature axis has {self.units} units in one call and {x.shape[1]} in another")
        self._note_shape(z, samples)
        self.samples += samples
        self.rows += x.shape[0]
        self.positions += x.shape[0] * x.shape[2]
        for piece in _pieces(x):
            self._count(piece)

    def _count(self, piece: Tensor) -> None:
        """Count one piece `(rows, units, positions)`; every figure while the piece is in the cache."""
        region = self.site.region
        hits = _hits(piece, region).sum(2)
        self._fires += hits.sum(0, dtype=torch.int64)
        self._row_fires += torch.count_nonzero(hits, dim=0)
        wide = torch.promote_types(piece.dtype, torch.float32)
        if not math.isfinite(piece.sum(dtype=wide).item()):
            finite = piece.isfinite()
            self._nonfinite += (~finite).sum((0, 2))
            highest = piece.where(finite, -math.inf)
            piece = piece.where(finite, region.low)
        else:
            highest = piece
        torch.maximum(self._maxima, highest.amax(2).amax(0).double(), out=self._maxima)
        outputs = OUTPUTS[self.site.op](piece, self.site.parameters).abs_()
        self._output_sums += outputs.sum(2, dtype=wide).sum(0, dtype=torch.float64)

    def _note_shape(self, z: Tensor, samples: int) -> None:
        """Remember the shape with its features in one place: "N" for the samples, "*" for sizes that vary."""
        axes = [axis % z.ndim for axis in self.features.axes]
        kept: list[int | str] = [size for dim, size in enumerate(z.shape) if dim not in axes[1:]]
        kept[axes[0]] = self.units
        if axes[0] != 0 and kept[0] == samples:
            kept[0] = "N"
        if not self.shape:
            self.shape, self.axis = tuple(kept), axes[0]
        elif len(kept) == len(self.shape):
            self.shape = tuple(a if a == b else "*" for a, b in zip(self.shape, kept, strict=True))
        else:
            self.shape, self.axis = ("*", self.units), 1

    def counts(self) -> Counts:
        """The counters as plain numbers."""
        return Counts(
            samples=self.samples,
            rows=self.rows,
            positions=self.positions,
            fires=tuple(self._fires.tolist()),
            row_fires=tuple(self._row_fires.tolist()),
            maxima=tuple(value if math.isfinite(value) else None for value in self._maxima.tolist()),
            output_sums=tuple(self._output_sums.tolist()),
            nonfinite=tuple(self._nonfinite.tolist()),
        )


def by_unit(z: Tensor, features: Features) -> Tensor:
    """View `z` as `(rows, units, positions)`, without a copy wherever its strides allow it.

    `(N, C, H, W)`, channels-last or not, becomes `(N, C, H·W)`; `(N, T, F)` becomes `(N, F, T)`; `(N, F)` becomes
    `(N, F, 1)`; features on dimension 0 (an input without a batch) make one row.
    """
    axes = sorted(axis % z.ndim for axis in features.axes)
    if axes[0] == 0:
        z, axes = z.unsqueeze(0), [axis + 1 for axis in axes]
    z = z.movedim(axes, list(range(1, len(axes) + 1))).flatten(1, len(axes))
    return z.unsqueeze(2) if z.ndim == 2 else z.flatten(2)


def _pieces(x: Tensor) -> Iterator[Tensor]:
    """Cut `(rows, units, positions)` along the rows into pieces that fit a cache. A GPU has no use for that."""
    if x.numel() == 0:
        return
    rows = len(x) if x.is_cuda else max(1, CHUNK // (x.shape[1] * x.shape[2]))
    yield from x.split(rows)


def _hits(piece: Tensor, region: Region) -> Tensor:
    """1.0 where a unit fires, else 0.0, in float32: a float buffer is summed much faster than a mask.

    Exact up to 2^24 positions a row. NaN compares false, so that it never counts as firing.
    """
    hits = torch.empty_like(piece, dtype=torch.float32)
    if region.outside:
        torch.gt(piece, region.high, out=hits)
        return hits.add_(torch.lt(piece, region.low))
    torch.gt(piece, region.low, out=hits)
    return hits if math.isinf(region.high) else hits.mul_(torch.lt(piece, region.high))
