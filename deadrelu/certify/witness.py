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

_STEPS, _FEWEST = 40, 8
_EFFORT = 2_000_000_000
"""Entries of all values that are computed in the search for the units of one site, over all steps."""

_FROM_DATA = 4
_AT_RANDOM = 2
_FIRST_STEP = 0.3
"""Of the width of the box; it shrinks to 0."""

_LEAK = 0.3
"""How much of a gradient passes a silent rectifier at first, from every other start: it shrinks to 0 as well."""


def taped_values(tape: Tape, numbers: Sequence[int], rows: Sequence[Tensor], leak: float = 0.0) -> tuple[Tensor, ...]:
    """These values for each sample: (rows, …) each. With gradients where the rows have them.

    `leak` lets a part of the gradient pass where a rectifier before it is silent, which moves no value.
    """

    def let_through(node: Node, value: Tensor, values: Mapping[int, Tensor]) -> Tensor:
        if not node.parents or slope_below_zero(node) is None:
            return value
        leaking = F.leaky_relu(values[node.parents[0]], leak)
        return value.detach() + leaking - leaking.detach()

    def run(*each: Tensor) -> tuple[Tensor, ...]:
        values = tape.values(each, numbers, let_through if leak else None)
        return tuple(values[number] for number in numbers)

    found: tuple[Tensor, ...] = torch.vmap(run)(*rows)
    return found


@dataclass(frozen=True)
class Search:
    """A search for inputs at which units fire: those of `entries` (units, positions) in the flat value `number`."""

    tape: Tape
    number: int
    entries: Tensor
    region: Region
    inputs: Sampled

    def run(self, near: Tensor, corners: Sequence[Tensor], *, seed: int = 0) -> dict[int, list[Tensor]]:
        """Inputs that make units fire, by the place of a unit in `entries`.

        It starts from the samples `near` (starts, units), and from `corners`, a row for each unit; in a large network
        it ends early. What is found is so in this arithmetic: a plain forward pass has to confirm it.
        """
        data = [[each[samples] for each in self.inputs.rows] for samples in near]
        chance = list(self._at_random(len(self.entries), seed))
        turns = ((0.0, [list(corners), *data[:1]]), (_LEAK, data[1:] + chance), (0.0, data[1:] + chance))
        at_once = self.tape.rows_at_once(self.number)
        effort = _EFFORT // self.tape.size(self.number)
        found: dict[int, list[Tensor]] = {}
        for leak, starts in turns:
            left = torch.tensor([unit for unit in range(len(self.entries)) if unit not in found])
            steps = min(_STEPS, effort // max(len(left) * len(starts), 1))
            if not len(left) or not starts or steps < _FEWEST:
                continue
            effort -= steps * len(left) * len(starts)
            for part in left.split(max(at_once // len(starts), 1)):
                rows = [torch.cat([start[place][part] for start in starts]) for place in range(len(corners))]
                climbed = self._climb(self.entries[part], rows, leak, steps)
                found |= {int(part[place]): values for place, values in climbed.items()}
        return found

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

    def _climb(self, entries: Tensor, rows: list[Tensor], leak: float, steps: int) -> dict[int, list[Tensor]]:
        """Go uphill from rows that belong to these units in turn; returns the highest input of each that fires."""
        lows, highs = self.inputs.low, self.inputs.high
        rows = [
            torch.minimum(torch.maximum(each, low), high) for each, low, high in zip(rows, lows, highs, strict=True)
        ]
        turns = len(rows[0]) // len(entries)
        of_rows = entries.repeat(turns, 1)
        best = torch.full((len(of_rows),), -torch.inf)
        kept = [each.clone() for each in rows]
        places = [place for place, each in enumerate(rows) if each.is_floating_point()]
        for step in range(steps + 1):
            left = 1 - step / steps
            with torch.enable_grad():
                rows = [each.detach().requires_grad_(each.is_floating_point()) for each in rows]
                [z] = taped_values(self.tape, [self.number], rows, leak * left)
                height = _height(self.region, z.flatten(1).gather(1, of_rows))
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
            if not places or bool((best.view(turns, -1).amax(0) > 0).all()):
                break
        most, turn = best.view(turns, -1).max(0)
        fires = torch.nonzero(most > 0).flatten().tolist()
        return {place: [each[int(turn[place]) * len(entries) + place].clone() for each in kept] for place in fires}


def nearest(tape: Tape, wanted: Sequence[Search], inputs: Sampled) -> list[Tensor]:
    """For each search the samples at which its units are nearest to firing: (starts, units), the nearest first."""
    numbers = [each.number for each in wanted]
    heights: list[list[Tensor]] = [[] for _ in wanted]
    at_once = min(map(tape.rows_at_once, numbers), default=1)
    for part in zip(*(each.split(at_once) for each in inputs.rows), strict=True) if wanted else ():
        for each, z, kept in zip(wanted, taped_values(tape, numbers, part), heights, strict=True):
            z = z.flatten(1)[:, each.entries.flatten()].unflatten(1, each.entries.shape)
            kept.append(_height(each.region, z))
    return [torch.cat(kept).topk(min(_FROM_DATA, len(inputs.rows[0])), 0).indices for kept in heights]


def _height(region: Region, z: Tensor) -> Tensor:
    """How near each unit (the last axis holds its positions) is to firing: above 0 it fires."""
    if region.outside:
        return torch.maximum(region.low - z, z - region.high).amax(-1)
    return torch.minimum(z - region.low, region.high - z).amax(-1)
