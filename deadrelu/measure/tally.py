"""The only state of a scan: per site, per unit counters that add."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deadrelu.measure.blocks import Scratch
from deadrelu.measure.figures import Bounds, Figures, Rule, at_once
from deadrelu.measure.kernels import Counter, counter
from deadrelu.measure.leaks import Leaks
from deadrelu.measure.native import Native
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import CallSite, Features
from deadrelu.report import Counts, Stats
from deadrelu.text.wording import count

LAYOUTS = 8
"""So many layouts of one site are planned for at a time: sequences of any length must not fill the memory."""

LARGE = 1 << 19
"""From so many elements on it is quicker to take the few silent units out and look at them alone."""


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
        try:
            self._leaks = Leaks.of(site, features, z)
        except ValueError as error:
            raise UncountableError(str(error)) from error
        self.units = by_unit(z, features).shape[1]
        self.shape: tuple[int | str, ...] = ()
        self.axis: int | None = None
        self.samples = self.rows = self.positions = 0
        self.settled = False
        self.stats = stats
        self._rule = Rule(site.op, tuple(site.parameters), site.region, "full" if stats == "full" else "rates")
        self._scratch = scratch
        self._fires, self._row_fires, self._nonfinite = torch.zeros(3, self.units, dtype=torch.int64, device=z.device)
        self._maxima = torch.full((self.units,), -math.inf, dtype=torch.float64, device=z.device)
        self._output_sums = torch.zeros(self.units, dtype=torch.float64, device=z.device)
        self._silent: Tensor | None = None
        self._counted = 0
        self._counters: dict[tuple[object, ...], Counter] = {}
        self._known: tuple[tuple[object, ...], Counter] | None = None

    @property
    def silent(self) -> int:
        """How many units have fired at no position yet, whether they are dead or met only NaN. Waits for a GPU."""
        if self.settled:
            return 0
        self._add_waiting()
        return int((self._fires == 0).sum())

    def add(self, z: Tensor, samples: int, batch: int | None = None) -> None:
        """Count one pre-activation, which `samples` independent samples reached that did not do so in a call before.

        `batch` is how many samples the model was given, by default as many. Raises `UncountableError` where the feature
        axis has another length than before.
        """
        if self.settled:
            return
        if z.is_quantized:
            z = z.dequantize()
        if self._leaks is not None:
            z = self._leaks.rectified(z)
        size = samples if batch is None else batch
        key = (size, type(z), z.shape, z.stride(), z.dtype, z.device, z.is_neg())
        if self._known is None or self._known[0] != key:
            self._known = key, self._planned(key, z, size)
        counts = self._known[1]
        self.samples += samples
        self.rows += counts.rows
        self.positions += counts.rows * counts.positions
        self._counted += 1
        is_enough = self.stats == "full" or (self.stats == "rates" and isinstance(counts, Native))
        if is_enough or (self._silent is not None and not len(self._silent)):
            counts.take(z)
            if counts.is_full:
                self._add(counts.taken())
        else:
            self._add_and_look(counts, z)

    def _planned(self, key: tuple[object, ...], z: Tensor, batch: int) -> Counter:
        """The counter of a layout, a new one where the layout is new."""
        found = self._counters.get(key)
        if found is None:
            self._note_shape(z, batch)
            if len(self._counters) == LAYOUTS:
                self._add_waiting()
                self._counters.clear()
            found = self._counters[key] = counter(z, self.features, self._rule, self._scratch)
        return found

    def _add_and_look(self, counts: Counter, z: Tensor) -> None:
        """Count, and look now and then which units are silent: they alone can be dead, or not fit to be called so."""
        # A look costs as much as a count, and on a GPU waits for the device: it comes after 1, 2, 4, … counts.
        is_time = self._counted & (self._counted - 1) == 0
        if isinstance(counts, Native):
            counts.take(z)
            if is_time and bool((counts.fired() | (self._fires > 0)).all()):
                self._add_waiting()
                self._look()
            return
        picked = self._pick(z) if self.stats == "fired" else None
        if picked is not None:
            x, units = picked
            if not (x.is_cpu and Bounds(self._rule.region, x).shuts_out(x)):
                self._add(at_once(x, self._rule), units)
                self._look()
            return
        counts.take(z)
        if is_time or (z.is_cpu and counts.is_full):
            self._add_waiting()
            self._look()
        elif counts.is_full:
            self._add(counts.taken())
        if z.is_cpu and self._silent is not None and len(self._silent):
            self._look_for_nonfinite(z)

    def _look(self) -> None:
        self._silent = (self._fires == 0).nonzero().squeeze(1)
        self.settled = self.stats == "fired" and len(self._silent) == 0

    def _look_for_nonfinite(self, z: Tensor) -> None:
        """A silent unit with such a value must not be called dead. The sum may be so for other reasons, too."""
        x, units = self._pick(z) or (z, None)
        if math.isfinite(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).item()):
            return
        if units is None:
            x = by_unit(z, self.features)
        _add(self._nonfinite, x.isfinite().logical_not_().sum((0, 2)), units)

    def _pick(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """The pre-activations of the silent units and which these are; None where all of `z` is read as quickly."""
        units = self._silent
        if units is None or not len(units) or 4 * len(units) > self.units or z.numel() < LARGE:
            return None
        x = by_unit(z, self.features)
        return (x.index_select(1, units), units) if x.is_contiguous() or not x.is_cpu else None

    def _add_waiting(self) -> None:
        for counts in self._counters.values():
            self._add(counts.taken())

    def _add(self, seen: Figures | None, units: Tensor | None = None) -> None:
        """Add to the counters of these units; None is all."""
        if seen is None:
            return
        _add(self._fires, seen.fires.long(), units)
        _add(self._row_fires, seen.row_fires.long(), units)
        if seen.nonfinite is not None:
            _add(self._nonfinite, seen.nonfinite.long(), units)
        if seen.maxima is not None and seen.output_sums is not None:
            torch.maximum(self._maxima, seen.maxima, out=self._maxima)
            self._output_sums += seen.output_sums

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
        axis = axes[0] if axes else None
        if not self.shape:
            self.shape, self.axis = tuple(kept), axis
        elif len(kept) == len(self.shape):
            self.shape = tuple(a if a == b else "*" for a, b in zip(self.shape, kept, strict=True))
        else:
            self.shape, self.axis = ("*", self.units), axis and 1

    def counts(self) -> Counts:
        """The counters as plain numbers."""
        self._add_waiting()
        maxima = tuple([value if math.isfinite(value) else None for value in self._maxima.tolist()])
        return Counts(
            samples=self.samples,
            rows=self.rows,
            positions=self.positions,
            fires=tuple(self._fires.tolist()),
            row_fires=tuple(self._row_fires.tolist()),
            maxima=maxima if self._leaks is None else self._leaks.known(maxima),
            output_sums=tuple(self._output_sums.tolist()),
            nonfinite=tuple(self._nonfinite.tolist()),
        )


def _add(counters: Tensor, more: Tensor, units: Tensor | None) -> None:
    """Add to the counters of these units; None is all."""
    if units is None:
        counters += more
    else:
        counters.index_add_(0, units, more)
