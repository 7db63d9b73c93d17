"""What is kept of the units that have fired nowhere yet: enough to say what would wake them.

A dead unit is silent after every batch, so what is silent after a batch is all that need be looked at from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deadrelu.judge.causes import SilentUnit, UnitLayer

KEPT = 128
"""So many of the largest row extremes are kept of a unit, and of the smallest where it may fire below them."""

MOST_KEPT = 2**20
"""No more than this is kept of all units of a site together, but `LEAST_KEPT` of each."""

LEAST_KEPT = 8


@dataclass(frozen=True, eq=False)
class Silent:
    """The pre-activations of silent units over `rows`, each with `positions / rows` positions.

    `units` `(k,)` are their numbers, `sums` `(k,)` their sums over all positions. `tops` `(k, …)` holds the
    largest of the maxima by row, largest first: at most `most_tops`; `bottoms` the smallest of the minima, smallest
    first: at most `most_bottoms`.
    """

    units: Tensor
    rows: int
    positions: int
    sums: Tensor
    tops: Tensor
    bottoms: Tensor
    most_tops: int
    most_bottoms: int

    def of(self, kept: Tensor) -> Silent:
        """Those units alone at which `kept` `(k,)` is true."""
        return self._each(lambda column: column[kept])

    def on_cpu(self) -> Silent:
        """The same in the memory of the CPU."""
        return self._each(lambda column: column.cpu())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Silent:
        units, sums, tops, bottoms = map(change, (self.units, self.sums, self.tops, self.bottoms))
        return replace(self, units=units, sums=sums, tops=tops, bottoms=bottoms)

    def plus(self, other: Silent) -> Silent:
        """Those that are silent in both, over the rows of both."""
        mine, theirs = self.of(torch.isin(self.units, other.units)), other.of(torch.isin(other.units, self.units))
        return Silent(
            mine.units,
            self.rows + other.rows,
            self.positions + other.positions,
            mine.sums + theirs.sums,
            _first(torch.cat([mine.tops, theirs.tops], 1), self.most_tops, largest=True),
            _first(torch.cat([mine.bottoms, theirs.bottoms], 1), self.most_bottoms, largest=False),
            self.most_tops,
            self.most_bottoms,
        )


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of the silent units of a site, by unit, and the figures of all its units.

    `sizes` and `gammas` `(units,)` are the L2 norms of the weights and the |γ| of the norm, where there are these.
    """

    of_unit: Mapping[int, UnitLayer]
    sizes: Tensor | None = None
    gammas: Tensor | None = None

    def usual(self, silent: Tensor) -> tuple[float, float]:
        """The median size and |γ| over the units that are not silent; over all if each is."""
        return _median(self.sizes, silent), _median(self.gammas, silent)


@dataclass(frozen=True, eq=False)
class Silence:
    """What is known of the silent units of a site that fires for `low < z < high`, with their layers.

    `samples` reached the site. `precision` is the relative distance of one pre-activation to the next one.
    """

    silent: Silent
    low: float
    high: float
    samples: int
    precision: float
    layers: Layers

    def plus(self, other: Silence) -> Silence:
        """The same over the data of both: what is silent in both."""
        return replace(self, silent=self.silent.plus(other.silent), samples=self.samples + other.samples)

    def units(self) -> Iterator[SilentUnit]:
        """Each silent unit, in the order of their numbers."""
        silent = self.silent
        size, gamma = self.layers.usual(silent.units)
        means = silent.sums / silent.positions
        for unit, mean, tops, bottoms in zip(
            silent.units.tolist(), means.tolist(), silent.tops, silent.bottoms, strict=True
        ):
            layer = self.layers.of_unit.get(unit)
            yield SilentUnit(
                unit=unit,
                low=self.low,
                high=self.high,
                rows=silent.rows,
                samples=self.samples,
                precision=self.precision,
                mean=mean,
                tops=tops.tolist(),
                bottoms=bottoms.tolist(),
                layer=None if layer is None else replace(layer, usual_size=size, usual_gamma=gamma),
            )


def silence_of(x: Tensor, units: Tensor, *, keeps_bottoms: bool) -> Silent:
    """What is kept of these `units` of one pre-activation `(rows, units, positions)`.

    `keeps_bottoms`: as many of the smallest as of the largest, and not the first alone.
    """
    kept = max(LEAST_KEPT, min(KEPT, MOST_KEPT // x.shape[1]))
    most_bottoms = kept if keeps_bottoms else 1
    z = x.detach().index_select(1, units)
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    tops, bottoms = (z[:, :, 0], z[:, :, 0]) if z.shape[2] == 1 else (z.amax(2), z.amin(2))
    return Silent(
        units,
        x.shape[0],
        x.shape[0] * x.shape[2],
        z.sum(2).sum(0, dtype=torch.float64),
        _first(tops.t(), kept, largest=True),
        _first(bottoms.t(), most_bottoms, largest=False),
        kept,
        most_bottoms,
    )


def _first(values: Tensor, count: int, *, largest: bool) -> Tensor:
    """The first so many of each row of `(k, n)` in order."""
    if count == 1:
        return values.amax(1, keepdim=True) if largest else values.amin(1, keepdim=True)
    return values.topk(min(count, values.shape[1]), dim=1, largest=largest).values


def _median(values: Tensor | None, silent: Tensor) -> float:
    if values is None:
        return 0.0
    live = torch.ones(len(values), dtype=torch.bool)
    live[silent] = False
    return float(values[live].median() if live.any() else values.median())
