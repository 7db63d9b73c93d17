"""What is kept of the units that have fired nowhere yet: enough to say what would wake them.

A dead unit is silent after every batch, so what is silent after a batch is all that need be looked at from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deadrelu.judge.causes import SilentUnit, UnitLayer

KEPT = 128
"""So many of the largest and of the smallest row extremes are kept of a unit."""


@dataclass(frozen=True, eq=False)
class Silent:
    """The pre-activations of silent units over `rows`, each with `positions / rows` positions.

    `units` `(k,)` are their numbers, `sums` `(k,)` their sums over all positions. `tops` `(k, ≤ KEPT)` holds the
    largest of the maxima by row, largest first; `bottoms` the smallest of the minima, smallest first.
    """

    units: Tensor
    rows: int
    positions: int
    sums: Tensor
    tops: Tensor
    bottoms: Tensor

    def of(self, kept: Tensor) -> Silent:
        """Those units alone at which `kept` `(k,)` is true."""
        return Silent(self.units[kept], self.rows, self.positions, self.sums[kept], self.tops[kept], self.bottoms[kept])

    def on_cpu(self) -> Silent:
        """The same in the memory of the CPU."""
        tensors = (self.units, self.sums, self.tops, self.bottoms)
        units, sums, tops, bottoms = (tensor.cpu() for tensor in tensors)
        return Silent(units, self.rows, self.positions, sums, tops, bottoms)

    def plus(self, other: Silent) -> Silent:
        """Those that are silent in both, over the rows of both."""
        mine, theirs = self.of(torch.isin(self.units, other.units)), other.of(torch.isin(other.units, self.units))
        return Silent(
            mine.units,
            self.rows + other.rows,
            self.positions + other.positions,
            mine.sums + theirs.sums,
            _first(torch.cat([mine.tops, theirs.tops], 1), largest=True),
            _first(torch.cat([mine.bottoms, theirs.bottoms], 1), largest=False),
        )


@dataclass(frozen=True, eq=False)
class Silence:
    """What is known of the silent units of a site that fires for `low < z < high`, with their layers by number."""

    silent: Silent
    low: float
    high: float
    layers: Mapping[int, UnitLayer]

    def plus(self, other: Silence) -> Silence:
        """The same over the data of both: what is silent in both."""
        return replace(self, silent=self.silent.plus(other.silent))

    def units(self) -> list[SilentUnit]:
        """Each silent unit, in the order of their numbers."""
        silent = self.silent
        columns = (silent.units, silent.sums / silent.positions, silent.tops, silent.bottoms)
        numbers, means, tops, bottoms = (column.tolist() for column in columns)
        return [
            SilentUnit(
                unit=unit,
                low=self.low,
                high=self.high,
                rows=silent.rows,
                mean=means[place],
                tops=tops[place],
                bottoms=bottoms[place],
                layer=self.layers.get(unit),
            )
            for place, unit in enumerate(numbers)
        ]


def silence_of(x: Tensor, units: Tensor) -> Silent:
    """What is kept of these `units` of one pre-activation `(rows, units, positions)`."""
    z = x.detach().index_select(1, units).movedim(1, 0)
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return Silent(
        units,
        x.shape[0],
        x.shape[0] * x.shape[2],
        z.sum((1, 2), dtype=torch.float64),
        _first(z.amax(2), largest=True),
        _first(z.amin(2), largest=False),
    )


def _first(values: Tensor, *, largest: bool) -> Tensor:
    """The first `KEPT` of each row of `(k, n)` in order."""
    return values.topk(min(KEPT, values.shape[1]), dim=1, largest=largest).values
