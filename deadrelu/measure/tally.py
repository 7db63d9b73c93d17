"""The only state of a scan: per site, per unit counters that add."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deadrelu.measure.figures import Rule
from deadrelu.measure.kernels import Scratch, by_unit, figures
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Counts, Stats

HELD = 1 << 17
"""Elements of the small pre-activations of one site that wait to be counted together (half a megabyte)."""

SMALL = HELD // 8
"""A pre-activation of at most so many elements waits: by itself its figures would cost more than the layer."""


class UncountableError(Exception):
    """The pre-activation has no units, or not the same ones as before, so that counters would mean nothing."""


class Tally:
    """Counters of one site, `units` entries each, on the device of the pre-activations; integers are int64.

    With stats "fired", only the units that are still silent are looked at from the second count on, and when there is
    none the tally is `settled`: it counts no more. Units that are silent are always looked at for what is not finite.
    """

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
        self.settled = False
        self.stats = stats
        self._rule = Rule(site.op, tuple(site.parameters), site.region, "full" if stats == "full" else "rates")
        self._scratch = scratch
        self._fires = torch.zeros(self.units, dtype=torch.int64, device=z.device)
        self._row_fires = self._fires.clone()
        self._nonfinite = self._fires.clone()
        self._maxima = torch.full((self.units,), -math.inf, dtype=torch.float64, device=z.device)
        self._output_sums = torch.zeros(self.units, dtype=torch.float64, device=z.device)
        self._silent: Tensor | None = None
        self._counted = 0
        self._held = torch.empty(0)
        self._filled = 0
        self._known: tuple[object, ...] = ()

    @property
    def silent(self) -> int:
        """How many units have fired at no position yet, whether they are dead or met only NaN. Waits for a GPU."""
        self._release()
        return 0 if self.settled else int((self._fires == 0).sum())

    def add(self, z: Tensor, samples: int) -> None:
        """Count one pre-activation, of `samples` independent samples.

        Raises `UncountableError` where the feature axis has another length than before.
        """
        if self.settled:
            return
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
        size = z.numel()
        if not 0 < size <= SMALL or self.axis == 0 or not z.is_cpu or z.layout is not torch.strided:
            return False
        rows, shape = len(z), z.shape[1:]
        if self._held.shape[1:] != shape or self._held.dtype != z.dtype:
            self._release()
            self._held = torch.empty((HELD * rows // size, *shape), dtype=z.dtype)
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
        self._counted += 1
        units = self._silent if self.stats == "fired" else None
        if units is not None and not _is_cheap_to_pick(x, len(units)):
            units = None
        if units is not None:
            x = x.index_select(1, units)
        seen = figures(x, self._rule, self._scratch)
        _add(self._fires, seen.fires.long(), units)
        _add(self._row_fires, seen.row_fires.long(), units)
        if seen.maxima is not None and seen.output_sums is not None:
            torch.maximum(self._maxima, seen.maxima.double(), out=self._maxima)
            self._output_sums += seen.output_sums
        elif seen.nonfinite is None and not math.isfinite(self._sum_of_silent(x, units)):
            seen.nonfinite = x.isfinite().logical_not_().sum((0, 2))
        if seen.nonfinite is not None:
            _add(self._nonfinite, seen.nonfinite.long(), units)
        # On a GPU every look waits for the device: after 1, 2, 4, … counts it costs next to nothing.
        if self.stats == "fired" and (x.is_cpu or self._counted & (self._counted - 1) == 0):
            self._silent = (self._fires == 0).nonzero().squeeze(1)
            self.settled = len(self._silent) == 0

    def _sum_of_silent(self, x: Tensor, units: Tensor | None) -> float:
        """A sum that is not finite if a unit that is silent so far has such a value in `x`: it must not be called dead.

        It may be not finite for other reasons, too, and costs nothing once every unit has fired.
        """
        if self._silent is not None and not len(self._silent):
            return 0.0
        self._silent = (self._fires == 0).nonzero().squeeze(1)
        if not len(self._silent):
            return 0.0
        if units is None and _is_cheap_to_pick(x, len(self._silent)):
            x = x.index_select(1, self._silent)
        return x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).item()

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


def _add(counters: Tensor, more: Tensor, units: Tensor | None) -> None:
    """Add to the counters of these units; None is all."""
    if units is None:
        counters += more
    else:
        counters.index_add_(0, units, more)


def _is_cheap_to_pick(x: Tensor, units: int) -> bool:
    """Whether taking so many units out of `x` reads less memory than a look at all of it."""
    return 4 * units <= x.shape[1] and (x.is_contiguous() or not x.is_cpu)
