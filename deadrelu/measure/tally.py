"""The only state of a scan: per site, per unit counters that add."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deadrelu.measure.kernels import Rule, Scratch, Stats, by_unit, figures
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Counts

HELD = 1 << 16
"""Elements of the small pre-activations of one site that wait to be counted together (a quarter of a megabyte)."""

SMALL = HELD // 4
"""A pre-activation of at most so many elements waits: by itself its figures would cost more than the layer."""


class UncountableError(Exception):
    """The pre-activation has no units, or not the same ones as before, so that counters would mean nothing."""


class Tally:
    """Counters of one site, `units` entries each, on the device of the pre-activations; integers are int64."""

    def __init__(self, site: CallSite, features: Features, z: Tensor, scratch: Scratch, stats: Stats = "full") -> None:
        """Zeroed counters for pre-activations like `z`. Raises `UncountableError` if that is a scalar."""
        self.site = site
        self.features = features
        if z.ndim == 0:
            raise UncountableError("its pre-activation is a single number, which has no feature axis")
        self.units = by_unit(z, features).shape[1]
        self.shape: tuple[int | str, ...] = ()
        self.axis = 0
        self.samples = self.rows = self.positions = 0
        self._rule = Rule(site.op, tuple(site.parameters), site.region, stats)
        self._scratch = scratch
        self._fires = torch.zeros(self.units, dtype=torch.int64, device=z.device)
        self._row_fires = self._fires.clone()
        self._nonfinite = self._fires.clone()
        self._maxima = torch.full((self.units,), -math.inf, dtype=torch.float64, device=z.device)
        self._output_sums = torch.zeros(self.units, dtype=torch.float64, device=z.device)
        self._held = torch.empty(0)
        self._filled = 0
        self._known: tuple[object, ...] = ()

    def add(self, z: Tensor, samples: int) -> None:
        """Count one pre-activation, of `samples` independent samples.

        Raises `UncountableError` where the feature axis has another length than before.
        """
        if z.is_quantized:
            z = z.dequantize()
        if self._known != (z.shape, samples):
            self._note_shape(z, samples)
        self.samples += samples
        if self._hold(z):
            return
        self._release()
        self._count(by_unit(z, self.features))

    def _hold(self, z: Tensor) -> bool:
        """Copy a small pre-activation to the others that wait; False where it is not small, or not like them."""
        rows = len(z)
        if not rows or z.numel() > SMALL or self.axis == 0 or not z.is_cpu or z.layout is not torch.strided:
            return False
        if self._held.shape[1:] != z.shape[1:] or self._held.dtype != z.dtype:
            self._release()
            self._held = torch.empty((HELD * rows // z.numel(), *z.shape[1:]), dtype=z.dtype)
        if self._filled + rows > len(self._held):
            self._release()
        self._held[self._filled : self._filled + rows] = z
        self._filled += rows
        return True

    def _release(self) -> None:
        """Count what waits."""
        if self._filled:
            self._count(by_unit(self._held[: self._filled], self.features))
            self._filled = 0

    def _count(self, x: Tensor) -> None:
        """Count `(rows, units, positions)`."""
        self.rows += x.shape[0]
        self.positions += x.shape[0] * x.shape[2]
        seen = figures(x, self._rule, self._scratch)
        self._fires += seen.fires.long()
        self._row_fires += seen.row_fires.long()
        if seen.maxima is not None and seen.output_sums is not None:
            torch.maximum(self._maxima, seen.maxima.double(), out=self._maxima)
            self._output_sums += seen.output_sums
        if seen.nonfinite is not None:
            self._nonfinite += seen.nonfinite.long()

    def _note_shape(self, z: Tensor, samples: int) -> None:
        """Remember the shape with its features in one place: "N" for the samples, "*" for sizes that vary."""
        axes = [axis % z.ndim for axis in self.features.axes]
        units = math.prod(z.shape[axis] for axis in axes)
        if units != self.units:
            raise UncountableError(f"its feature axis has {self.units} units in one call and {units} in another")
        self._known = (z.shape, samples)
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
        self._release()
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
