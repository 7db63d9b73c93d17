"""What is kept of the units that have fired nowhere yet: enough to say what would wake them.

A dead unit is silent after every batch, so what is silent after a batch is all that need be looked at from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deadrelu.judge.causes import SilentUnit, UnitLayer
from deadrelu.measure.native import NativeExtremes

KEPT = 64
"""So many of the largest row extremes are kept of a unit, and of the smallest where it may fire below them."""

MOST_KEPT = 2**20
"""No more than this is kept of all units of a site together, but `LEAST_KEPT` of each."""

LEAST_KEPT = 8

AT_ONCE = 2**20
"""What was kept of several batches is put together once it has so many elements."""


@dataclass(frozen=True, eq=False)
class Silent:
    """The pre-activations of silent units over `rows`, each with `positions / rows` positions.

    `units` `(k,)` are their numbers, `sums` `(k,)` their sums over all positions. `tops` `(k, …)` are the largest of
    the maxima by row, `bottoms` the smallest of the minima where there is an edge below which a unit fires.
    """

    units: Tensor
    rows: int
    positions: int
    sums: Tensor
    tops: Tensor
    bottoms: Tensor

    def of(self, kept: Tensor) -> Silent:
        """Those units alone at which `kept` `(k,)` is true."""
        return self._each(lambda column: column[kept])

    def on_cpu(self) -> Silent:
        """The same in the memory of the CPU."""
        return self._each(lambda column: column.cpu())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Silent:
        units, sums, tops, bottoms = map(change, (self.units, self.sums, self.tops, self.bottoms))
        return replace(self, units=units, sums=sums, tops=tops, bottoms=bottoms)

    def plus(self, other: Silent, most: int) -> Silent:
        """Those that are silent in both, over the rows of both; no more than so many extremes are kept of a unit."""
        both = torch.isin(self.units, other.units), torch.isin(other.units, self.units)
        return join_silent([self.of(both[0]), other.of(both[1])], most)


def join_silent(parts: Sequence[Silent], most: int) -> Silent:
    """The same units over the rows of each part; no more than so many extremes are kept of a unit, in order."""
    return Silent(
        parts[0].units,
        sum(part.rows for part in parts),
        sum(part.positions for part in parts),
        torch.stack([part.sums for part in parts]).sum(0),
        _first(torch.cat([part.tops for part in parts], 1), most, largest=True),
        _first(torch.cat([part.bottoms for part in parts], 1), most, largest=False),
    )


class SilenceListener:
    """Keeps what would wake the units of a site that have fired nowhere yet."""

    def __init__(self, units: int, *, has_top: bool) -> None:
        """Nothing is known. `has_top`: there is an edge below which a unit fires, so the smallest values count too.

        The listener `is_over` when every unit has fired.
        """
        self.most = max(LEAST_KEPT, min(KEPT, MOST_KEPT // units))
        self.precision = 0.0
        self.is_over = False
        self._of = units
        self._has_top = has_top
        self._units: Tensor | None = None
        self._parts: list[Silent] = []
        self._unread: list[Tensor] = []
        self._waiting = 0
        self._dense: list[NativeExtremes] = []

    @property
    def silent(self) -> Silent | None:
        """What was kept, with its extremes in order; None if nothing was."""
        self._read()
        self._parts = [join_silent(self._parts, self.most)] if self._parts else []
        self._waiting = 0
        return self._parts[0] if self._parts else None

    def narrow(self, units: Tensor) -> None:
        """Keep these units alone from now on, which are silent so far; before the first, all of them."""
        self._read()
        if self._units is None:
            self._units = units
        elif len(units) < len(self._units):
            units = units.to(self._units.device)
            kept = torch.isin(self._units, units)
            self._parts, self._units = [part.of(kept) for part in self._parts], units
        self.is_over = not len(self._units)

    def add(self, x: Tensor) -> None:
        """Keep what is needed of one pre-activation `(rows, units, positions)`."""
        if self._units is None:
            return
        if x.shape[2] > 1:
            self._keep(x.detach(), self._units)
        else:  # small as they are, such rows are looked at together
            self._unread.append(x.detach()[:, :, 0].index_select(1, self._units))
            self._waiting += self._unread[-1].numel()
        if self._waiting > AT_ONCE:
            self._read()
            self._parts = [join_silent(self._parts, self.most)]
            self._waiting = 0

    def add_dense(self, first: int, rows: int) -> None:
        """The same of so many rows that lie densely from this address on: one float32 of each unit of the site."""
        if self._units is None:
            return
        if not self._dense:
            sides = (False, True) if self._has_top else (False,)
            self._dense = [NativeExtremes(self._units, self._of, self.most, smallest=side) for side in sides]
        for side in self._dense:
            side.add(first, rows)

    def _read(self) -> None:
        """Look at the rows that wait for it, and take over what was kept of others; both of the silent units alone."""
        if self._dense:
            assert self._units is not None
            self.precision = max(self.precision, torch.finfo(torch.float32).eps)
            tops, bottoms = self._dense[0].values, self._dense[-1].values[:, : self.most * self._has_top]
            rows = self._dense[0].rows
            self._parts.append(Silent(self._units, rows, rows, self._dense[0].sums, tops, bottoms))
            self._dense = []
        if self._unread:
            x = torch.cat(self._unread)[:, :, None]
            self._unread = []
            self._keep(x, torch.arange(x.shape[1], device=x.device))

    def _keep(self, x: Tensor, columns: Tensor) -> None:
        """Keep what is needed of the silent units, which are these columns of `x`."""
        assert self._units is not None
        self.precision = max(self.precision, torch.finfo(x.dtype).eps)
        tops, bottoms, sums = self._of_rows(x, columns)
        rows, _, positions = x.shape
        self._parts.append(Silent(self._units, rows, rows * positions, sums, tops, bottoms))
        self._waiting += tops.numel()

    def _of_rows(self, x: Tensor, units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maxima and minima by row, `(k, rows)`, and the sums `(k,)` of these units."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        is_across = x.stride(1) == 1 < x.shape[2]  # then it is quicker to look at all units than to pick some
        x = x if is_across else x.index_select(1, units)
        tops = x.amax(2) if x.shape[2] > 1 else x[:, :, 0]
        bottoms = tops[:0] if not self._has_top else x.amin(2) if x.shape[2] > 1 else tops
        sums = (x.sum(2, dtype=dtype) if x.shape[2] > 1 else tops).sum(0, dtype=torch.float64)
        if is_across:
            tops, bottoms, sums = tops[:, units], bottoms[:, units], sums[units]
        return tops.to(dtype).t(), bottoms.to(dtype).t(), sums


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of the silent units of a site, by unit, and what shows the usual size of a unit's weights.

    `sizes` `(s,)` are the L2 norms of the weights of the units `sampled` `(s,)`, and `gammas` `(s,)` their |γ|, where
    there are these.
    """

    of_unit: Mapping[int, UnitLayer]
    sampled: Tensor | None = None
    sizes: Tensor | None = None
    gammas: Tensor | None = None

    def usual(self, silent: Tensor) -> tuple[float, float]:
        """The median size and |γ| over the units that are not silent; over all if each is."""
        if self.sampled is None:
            return 0.0, 0.0
        live = torch.isin(self.sampled, silent, invert=True)
        return _median(self.sizes, live), _median(self.gammas, live)


@dataclass(frozen=True, eq=False)
class Silence:
    """What is known of the silent units of a site that fires for `low < z < high`, with their layers.

    `samples` reached the site. `precision` is the relative distance of one pre-activation to the next one, and `most`
    how many extremes are kept of a unit.
    """

    silent: Silent
    low: float
    high: float
    samples: int
    precision: float
    most: int
    layers: Layers

    def plus(self, other: Silence) -> Silence:
        """The same over the data of both: what is silent in both."""
        silent = self.silent.plus(other.silent, self.most)
        precision = max(self.precision, other.precision)
        return replace(self, silent=silent, samples=self.samples + other.samples, precision=precision)

    def units(self, minima: Sequence[float | None]) -> Iterator[SilentUnit]:
        """Each silent unit with finite pre-activations, in order; `minima` are those of every unit of the site."""
        silent = self.silent
        size, gamma = self.layers.usual(silent.units)
        means = (silent.sums / silent.positions).tolist()
        for place, unit in enumerate(silent.units.tolist()):
            least, layer = minima[unit], self.layers.of_unit.get(unit)
            if least is None:
                continue
            yield SilentUnit(
                unit=unit,
                low=self.low,
                high=self.high,
                rows=silent.rows,
                samples=self.samples,
                precision=self.precision,
                mean=means[place],
                least=least,
                tops=silent.tops[place].tolist(),
                bottoms=silent.bottoms[place].tolist(),
                layer=layer,
                usual_size=size,
                usual_gamma=gamma,
            )


def _first(values: Tensor, count: int, *, largest: bool) -> Tensor:
    """The first so many of each row of `(k, n)` in order."""
    return values.topk(min(count, values.shape[1]), dim=1, largest=largest).values


def _median(values: Tensor | None, live: Tensor) -> float:
    """The median over the live ones; over all if none is live."""
    if values is None:
        return 0.0
    return float(values[live].median() if live.any() else values.median())
