"""Looks for an input of the box that makes a silent unit fire: signed gradients uphill, from samples near to firing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
_FIRST_STEP, _SHRINKING = 0.2, 0.95
"""Of the width of the box, and from step to step."""

_LEAK = 0.2
_ROWS = 512


def taped_values(tape: Tape, number: int, rows: Sequence[Tensor], *, through_dead: bool = False) -> Tensor:
    """The value `number` for each sample: (rows, …). With gradients where the rows have them.

    `through_dead` lets a part of the gradient pass where a rectifier before it is silent, which moves no value.
    """
    change = _let_through if through_dead else None
    return torch.vmap(lambda *each: tape.values(each, [number], change)[number])(*rows)


def _let_through(node: Node, value: Tensor, values: Mapping[int, Tensor]) -> Tensor:
    """The same value, with a gradient also where a rectifier is flat."""
    if not node.parents or slope_below_zero(node) is None:
        return value
    leak = F.leaky_relu(values[node.parents[0]], _LEAK)
    return value.detach() + leak - leak.detach()


def search(
    tape: Tape,
    number: int,
    entries: Tensor,
    region: Region,
    inputs: Sampled,
    corners: Sequence[Tensor],
    *,
    seed: int = 0,
) -> dict[int, list[Tensor]]:
    """Inputs that make units fire, by the place of a unit in `entries`, which are indices into the flat value `number`.

    `corners` are further rows to start from, one for each unit. What is found is so in this arithmetic: a plain forward
    pass has to confirm it.
    """
    chance = torch.Generator().manual_seed(seed)
    starts = [list(corners), *_starts(tape, number, entries, region, inputs, chance)]
    found: dict[int, list[Tensor]] = {}
    for turn, start in enumerate(starts):
        left = torch.tensor([unit for unit in range(len(entries)) if unit not in found])
        for part in left.split(_ROWS):
            if len(part):
                rows = [each[part] for each in start]
                found |= _climb(tape, number, entries[part], region, inputs, rows, part, through_dead=turn % 2 == 1)
    return found


def _starts(
    tape: Tape, number: int, entries: Tensor, region: Region, inputs: Sampled, chance: torch.Generator
) -> list[list[Tensor]]:
    """Where to start for each unit: from the samples whose pre-activation is nearest to firing, then at random."""
    with torch.no_grad():
        near = torch.cat(
            [
                _height(
                    taped_values(tape, number, part).flatten(1)[:, entries.flatten()].unflatten(1, entries.shape),
                    region,
                )
                for part in zip(*(each.split(_ROWS) for each in inputs.rows), strict=True)
            ]
        )
    order = near.argsort(0, descending=True)[:_FROM_DATA]
    starts = [[each[samples] for each in inputs.rows] for samples in order]
    for _ in range(_AT_RANDOM):
        start = []
        for low, high, each in zip(inputs.low, inputs.high, inputs.rows, strict=True):
            if not each.is_floating_point():
                share = torch.rand(len(entries), *low.shape, generator=chance)
                start.append((low + share * (high - low + 1)).floor().to(low.dtype).clamp(max=high))
                continue
            share = torch.rand(len(entries), *low.shape, generator=chance).to(low.dtype)
            start.append(low + share * (high - low))
        starts.append(start)
    return starts


def _height(z: Tensor, region: Region) -> Tensor:
    """How near each unit (the last axis holds its positions) is to firing: above 0 it fires."""
    if region.outside:
        away = torch.maximum(region.low - z, z - region.high)
    else:
        away = torch.minimum(z - region.low, region.high - z)
    return away.amax(-1)


def _climb(
    tape: Tape,
    number: int,
    entries: Tensor,
    region: Region,
    inputs: Sampled,
    rows: list[Tensor],
    names: Tensor,
    *,
    through_dead: bool,
) -> dict[int, list[Tensor]]:
    """Go uphill for each unit from its own row; returns the highest input of those that fire, by name."""
    best = torch.full((len(entries),), -torch.inf)
    kept = [each.clone() for each in rows]
    rows = [
        torch.minimum(torch.maximum(each, low), high) if each.is_floating_point() else each
        for each, low, high in zip(rows, inputs.low, inputs.high, strict=True)
    ]
    places = [place for place, each in enumerate(rows) if each.is_floating_point()]
    for step in range(_STEPS + 1):
        with torch.enable_grad():
            rows = [each.detach().requires_grad_(each.is_floating_point()) for each in rows]
            z = taped_values(tape, number, rows, through_dead=through_dead).flatten(1)
            height = _height(z.gather(1, entries.flatten(1)).view(entries.shape), region)
            of = [rows[place] for place in places]
            gradients = torch.autograd.grad(height.sum(), of, allow_unused=True) if of else ()
        with torch.no_grad():
            higher = height > best
            best = torch.where(higher, height, best)
            for place, each in enumerate(rows):
                kept[place][higher] = each.detach()[higher]
            if step == _STEPS or not places:
                break
            share = _FIRST_STEP * _SHRINKING**step
            for place, gradient in zip(places, gradients, strict=True):
                if gradient is not None:
                    low, high = inputs.low[place], inputs.high[place]
                    moved = rows[place] + share * (high - low) * gradient.sign()
                    rows[place] = torch.minimum(torch.maximum(moved, low), high)
    return {
        int(name): [each[row].clone() for each in kept]
        for row, name in enumerate(names.tolist())
        if bool(best[row] > 0)
    }
