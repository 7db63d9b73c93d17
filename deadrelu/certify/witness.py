"""Looks for an input of the box that makes a silent unit fire: signed gradients uphill, from samples near to firing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.certify.box import Sampled
from deadrelu.certify.shapes import slope_below_zero
from deadrelu.certify.tape import Node, Tape
from deadrelu.flatness import Region

_STEPS = 60
_FROM_DATA = 4
_AT_RANDOM = 2
_FIRST_STEP = 0.3
"""Of the width of the box; it shrinks to 0."""

_LEAK = 0.3
"""How much of a gradient passes a silent rectifier at first, from every other start: it shrinks to 0 as well."""

_ROWS = 512


def taped_values(tape: Tape, number: int, rows: Sequence[Tensor], leak: float = 0.0) -> Tensor:
    """The value `number` for each sample: (rows, …). With gradients where the rows have them.

    `leak` lets a part of the gradient pass where a rectifier before it is silent, which moves no value.
    """

    def let_through(node: Node, value: Tensor, values: Mapping[int, Tensor]) -> Tensor:
        if not node.parents or slope_below_zero(node) is None:
            return value
        leaking = F.leaky_relu(values[node.parents[0]], leak)
        return value.detach() + leaking - leaking.detach()

    change = let_through if leak else None
    return torch.vmap(lambda *each: tape.values(each, [number], change)[number])(*rows)


@dataclass(frozen=True)
class Search:
    """A search for inputs at which entries of the value `number` are in `region`."""

    tape: Tape
    number: int
    region: Region
    inputs: Sampled

    def run(self, entries: Tensor, corners: Sequence[Tensor], *, seed: int = 0) -> dict[int, list[Tensor]]:
        """Inputs that make units fire, by the place of a unit in `entries`: (units, positions), into the flat value.

        `corners` are further rows to start from, one for each unit. What is found is so in this arithmetic: a plain
        forward pass has to confirm it.
        """
        near, chance = list(self._from_data(entries)), list(self._at_random(len(entries), seed))
        found: dict[int, list[Tensor]] = {}
        for leak, starts in ((0.0, [list(corners), *near[:1]]), (_LEAK, near[1:] + chance), (0.0, near[1:] + chance)):
            left = torch.tensor([unit for unit in range(len(entries)) if unit not in found])
            for part in left.split(max(_ROWS // max(len(starts), 1), 1)) if starts else ():
                if len(part):
                    rows = [torch.cat([start[place][part] for start in starts]) for place in range(len(corners))]
                    climbed = self._climb(entries[part].repeat(len(starts), 1), rows, leak)
                    found |= {int(part[row % len(part)]): values for row, values in climbed.items()}
        return found

    def _from_data(self, entries: Tensor) -> Iterable[list[Tensor]]:
        """The samples at which each unit is nearest to firing."""
        heights = []
        with torch.no_grad():
            for part in zip(*(each.split(_ROWS) for each in self.inputs.rows), strict=True):
                z = taped_values(self.tape, self.number, part).flatten(1)[:, entries.flatten()]
                heights.append(self._height(z.unflatten(1, entries.shape)))
        for samples in torch.cat(heights).argsort(0, descending=True)[:_FROM_DATA]:
            yield [each[samples] for each in self.inputs.rows]

    def _at_random(self, units: int, seed: int) -> Iterable[list[Tensor]]:
        """Points of the box."""
        chance = torch.Generator().manual_seed(seed)
        for _ in range(_AT_RANDOM):
            start = []
            for low, high in zip(self.inputs.low, self.inputs.high, strict=True):
                share = torch.rand(units, *low.shape, generator=chance)
                if low.is_floating_point():
                    start.append(low + share.to(low.dtype) * (high - low))
                else:
                    start.append((low + share * (high - low + 1)).floor().to(low.dtype).clamp(max=high))
            yield start

    def _height(self, z: Tensor) -> Tensor:
        """How near each unit (the last axis holds its positions) is to firing: above 0 it fires."""
        region = self.region
        if region.outside:
            return torch.maximum(region.low - z, z - region.high).amax(-1)
        return torch.minimum(z - region.low, region.high - z).amax(-1)

    def _climb(self, entries: Tensor, rows: list[Tensor], leak: float) -> dict[int, list[Tensor]]:
        """Go uphill for each unit from its own row; returns the highest input of those that fire, by place."""
        lows, highs = self.inputs.low, self.inputs.high
        rows = [
            torch.minimum(torch.maximum(each, low), high) for each, low, high in zip(rows, lows, highs, strict=True)
        ]
        best = torch.full((len(entries),), -torch.inf)
        kept = [each.clone() for each in rows]
        places = [place for place, each in enumerate(rows) if each.is_floating_point()]
        for step in range(_STEPS + 1):
            left = 1 - step / _STEPS
            with torch.enable_grad():
                rows = [each.detach().requires_grad_(each.is_floating_point()) for each in rows]
                z = taped_values(self.tape, self.number, rows, leak * left).flatten(1)
                height = self._height(z.gather(1, entries.flatten(1)).view(entries.shape))
                of = [rows[place] for place in places]
                gradients = torch.autograd.grad(height.sum(), of, allow_unused=True) if of else ()
            with torch.no_grad():
                higher = height > best
                best = torch.where(higher, height, best)
                for place, each in enumerate(rows):
                    kept[place][higher] = each.detach()[higher]
                for place, gradient in zip(places, gradients, strict=True):
                    if gradient is not None:
                        moved = rows[place] + _FIRST_STEP * left * (highs[place] - lows[place]) * gradient.sign()
                        rows[place] = torch.minimum(torch.maximum(moved, lows[place]), highs[place])
            if not places or bool((best > 0).all()):
                break
        return {row: [each[row].clone() for each in kept] for row in torch.nonzero(best > 0).flatten().tolist()}
