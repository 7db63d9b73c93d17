"""The only state of a scan: per site, per unit counters that add."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from deadrelu.measure.figures import Figures, TorchCounter
from deadrelu.measure.firing import Firing
from deadrelu.measure.measurement import merge_shapes
from deadrelu.measure.native import NativeCounter
from deadrelu.measure.ranks import MOST_UNITS, FeatureGram
from deadrelu.measure.silence import SilenceListener
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Counts, Stats
from deadrelu.text.wording import count

LAYOUTS = 8
"""So many layouts of one site are planned for at a time: sequences of any length must not fill the memory."""


class UncountableError(Exception):
    """The pre-activation has no units, or not the same ones as before, so counters would mean nothing."""


class _Counter(Protocol):
    """Counts pre-activations of one layout, each of `rows` rows with `positions` positions for every unit.

    Of these rows `lines` lie densely in memory, with one float32 of each unit.
    """

    rows: int
    positions: int
    lines: int

    def update(self, z: Tensor) -> None:
        """Count one pre-activation."""

    @property
    def fires(self) -> Tensor:
        """At how many positions each unit fired so far."""

    def compute(self) -> Figures:
        """The figures of all that was counted."""

    def clear(self) -> None:
        """Start again from nothing."""


class Tally:
    """Counters of one site, `units` entries each, on the device of the pre-activations.

    With stats "fired" the tally `is_done` once every unit has fired: it counts no more.
    """

    def __init__(
        self,
        site: CallSite,
        features: Features,
        z: Tensor,
        stats: Stats = "full",
        saturated_below: float = 0.01,
        *,
        has_ranks: bool = False,
    ) -> None:
        """Zeroed counters for pre-activations like `z`. Raises `UncountableError` if that is a scalar.

        If it `has_ranks`, the Gram matrix of the outputs is summed, unless there are too many units.
        """
        self.site = site
        self.features = features
        if z.ndim == 0:
            raise UncountableError("its pre-activation is a single number, which has no feature axis")
        try:
            self._firing = Firing(site, features, z, saturated_below)
        except ValueError as error:
            raise UncountableError(str(error)) from error
        self.units = by_unit(z, features).shape[1]
        self.shape: tuple[int | str, ...] = ()
        self.axis: int | None = None
        self.samples = self.rows = self.positions = 0
        self.is_done = self.is_native = self._has_past = False
        self._stats = stats
        self._updates = 0
        self._past = Figures.zeros(self.units, z.device)
        self._counters: dict[tuple[object, ...], _Counter] = {}
        self._latest: tuple[tuple[object, ...], _Counter] | None = None
        self.listener: SilenceListener | None = None
        if stats == "full" and self._firing.is_rectified and not self._firing.region.outside and not site.rectified:
            self.listener = SilenceListener(self.units, has_top=self._firing.region.high < math.inf)
        self.gram: FeatureGram | None = None
        if has_ranks and self.units <= MOST_UNITS:
            self.gram = FeatureGram(self._firing.outputs, features, self.units, z.device)

    @property
    def silent_so_far(self) -> int:
        """How many units have fired at no position yet, whether they are dead or met only NaN. Waits for a GPU."""
        return 0 if self.is_done else int((self.figures().fires == 0).sum())

    @property
    def may_be_dead(self) -> int:
        """How many of the silent units are not saturated for certain. Waits for a GPU."""
        if self.is_done:
            return 0
        figures = self.figures()
        sloped = self._firing.can_saturate(figures.stationary, self.positions)
        return int(((figures.fires == 0) & torch.as_tensor(sloped, device=figures.fires.device).logical_not()).sum())

    def update(self, z: Tensor, samples: int, batch: int | None = None) -> None:
        """Count one pre-activation, which `samples` independent samples reached that did not do so in a call before.

        `batch` is how many samples the model was given, by default as many. Raises `UncountableError` where the feature
        axis has another length than before.
        """
        if self.is_done:
            return
        if z.is_quantized:
            z = z.dequantize()
        size = samples if batch is None else batch
        key = (size, type(z), z.shape, z.stride(), z.dtype, z.device, z.is_neg())
        if self._latest is None or self._latest[0] != key:
            self._latest = key, self._counters.get(key) or self._plan(key, z, size)
        counter = self._latest[1]
        counter.update(z)
        if self.gram is not None:
            self.gram.add(z)
        self.samples += samples
        self.rows += counter.rows
        self.positions += counter.rows * counter.positions
        self._updates += 1
        if self.listener is not None and not self.listener.is_over and z.numel():
            self._listen(self.listener, z, counter)
        # A check waits for a GPU: checks run after 1, 2, 4, … updates.
        if self._stats == "fired" and self._updates & (self._updates - 1) == 0:
            self.is_done = self.silent_so_far == 0

    @property
    def is_listening(self) -> bool:
        """Whether some unit may be dead of which more is to be known."""
        return self.listener is not None and not self.listener.is_over

    @property
    def edges(self) -> tuple[float, float]:
        """Between which pre-activations a unit of a rectifier fires."""
        region = self._firing.region
        return region.low, region.high

    def _listen(self, listener: SilenceListener, z: Tensor, counter: _Counter) -> None:
        """Keep what would wake the units that are silent so far. After updates 1, 2, 4, … these are found again."""
        if self._updates & (self._updates - 1) == 0:
            fires = sum((counter.fires for counter in self._counters.values()), self._past.fires)
            listener.narrow((fires == 0).nonzero().flatten())
        if counter.lines:
            listener.add_dense(z.data_ptr(), counter.lines)
        elif not listener.is_over:
            listener.add(by_unit(z, self.features))

    def clear(self) -> None:
        """Count from 0 again; the layouts that were planned for stay."""
        self.samples = self.rows = self.positions = self._updates = 0
        if self._has_past:
            self._past.clear()
        for counter in self._counters.values():
            counter.clear()

    def figures(self) -> Figures:
        """The figures of all layouts; read them before the next pre-activation."""
        if len(self._counters) == 1 and not self._has_past:
            return next(iter(self._counters.values())).compute()
        figures = Figures.zeros(self.units, self._past.fires.device)
        for part in (self._past, *(counter.compute() for counter in self._counters.values())):
            figures.merge(part)
        return figures

    def saturates(self, figures: Figures) -> Tensor | bool:
        """Which units are saturated, rather than dead, where they fire nowhere."""
        return self._firing.can_saturate(figures.stationary, self.positions)

    def compute(self) -> Counts:
        """The counters as plain numbers."""
        figures = self.figures()
        maxima, minima = (
            tuple([value if math.isfinite(value) else None for value in extremes.tolist()])
            for extremes in (figures.maxima, figures.minima)
        )
        sloped = self._firing.can_saturate(figures.stationary, self.positions)
        highs = figures.highs == self.positions
        return Counts(
            samples=self.samples,
            rows=self.rows,
            positions=self.positions,
            fires=tuple(figures.fires.tolist()),
            row_fires=tuple(figures.row_fires.tolist()),
            maxima=maxima,
            minima=minima,
            output_sums=tuple(figures.output_sums.tolist()),
            nonfinite=tuple(figures.nonfinite.tolist()),
            sloped=tuple(torch.as_tensor(sloped).expand(self.units).tolist()),
            high=tuple(highs.tolist()),
        )

    def _plan(self, key: tuple[object, ...], z: Tensor, batch: int) -> _Counter:
        """A counter for a new layout."""
        self._note_shape(z, batch)
        if len(self._counters) == LAYOUTS:
            self._past, self._has_past = self.figures(), True
            self._counters.clear()
        x = by_unit(z, self.features)
        counter: _Counter
        if NativeCounter.can_count(z, self.site.op):
            counter = NativeCounter(z, x, self._firing.region, self.features)
            self.is_native = True
        else:
            counter = TorchCounter(x, self._firing, self.features, is_full=self._stats == "full")
        self._counters[key] = counter
        return counter

    def _note_shape(self, z: Tensor, batch: int) -> None:
        """Remember the shape with its features in one place: "N" for the samples, "*" for sizes that vary."""
        axes = [axis % z.ndim for axis in self.features.axes]
        units = math.prod(z.shape[axis] for axis in axes)
        if units != self.units:
            raise UncountableError(
                f"its feature axis has {count(self.units, 'unit')} in one call and {units} in another"
            )
        kept: list[int | str] = [size for dim, size in enumerate(z.shape) if dim not in axes[1:]]
        if axes:
            kept[axes[0]] = self.units
        if kept[0] == batch and axes[:1] != [0]:
            kept[0] = "N"
        known = [(self.shape, self.axis), (tuple(kept), axes[0] if axes else None)]
        self.shape, self.axis = merge_shapes(known, self.units)
