"""Which entries of values are the same for every input, as long as some units are dead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from deadrelu.certify import affine, shapes
from deadrelu.certify.tape import INPUT, Node, Tape
from deadrelu.certify.targets import Target
from deadrelu.remedy.prune.channels import kind_of


def fixed_entries(tape: Tape, wanted: Iterable[int], dead: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The wanted values in float64: what they are for every input, NaN where they may depend on it.

    `dead` holds for the values of activations what their dead units make, and NaN for all else.
    """
    wanted = set(wanted)
    needed = tape.ancestors(wanted)
    found: dict[int, Tensor] = {}
    for node in tape.nodes[: max(wanted, default=-1) + 1]:
        if node.number not in needed:
            continue
        value = _value(tape, node, found)
        if node.number in dead:
            value = torch.where(dead[node.number].isnan(), value, dead[node.number])
        found[node.number] = value
    return {number: found[number] for number in wanted}


def _value(tape: Tape, node: Node, found: Mapping[int, Tensor]) -> Tensor:
    """A value of which NaN stands for what is unknown: torch carries that along wherever it is computed with."""
    unknown = torch.full(node.shape, math.nan, dtype=torch.float64)
    if node.operator == INPUT or node.obstacle or kind_of(node) == "other":
        return unknown
    if not all(tape.nodes[number].dtype.is_floating_point for number in (node.number, *node.parents)):
        return unknown
    parents = [found[parent] for parent in node.parents]
    value = affine.apply(node, found) if affine.is_affine(node) else node.run(found, torch.float64)
    if shapes.is_curve(node):
        return torch.where(parents[0].isnan(), unknown, value)  # the sign of NaN is 0
    if node.operator == "mul":
        for parent in parents:
            value = torch.where(parent == 0, 0.0, value)
    return value


def made_by_dead(tape: Tape, act: Node, target: Target, units: Iterable[int]) -> Tensor:
    """What dead units make of the activation `act`; NaN elsewhere, and where that is not one value."""
    made = torch.full((act.shape.numel(),), math.nan, dtype=torch.float64)
    shape = tape.nodes[target.number].shape
    for unit in units:
        edge = _edge(target, unit)
        if edge is not None:
            at_edge = torch.full(shape, edge, dtype=torch.float64)
            made[target.entries[unit]] = act.run({target.number: at_edge}, torch.float64).flatten()[
                target.entries[unit]
            ]
    return made.view(act.shape)


def _edge(target: Target, unit: int) -> float | None:
    """The edge of the flat part in which a dead unit always is; None where it is in several."""
    region, stats = target.region, target.stats
    most = stats.max_preactivation[unit]
    least = stats.min_preactivation[unit] if stats.min_preactivation else None
    if region.outside or math.isinf(region.high) or (most is not None and most <= region.low):
        return region.low
    return region.high if least is not None and least >= region.high else None
