"""Merges units that are proved always on: together they are one linear map, which takes no more units than its rank.

Where x is in the box, such units add W₂ (W₁ x + b₁) to the layer that reads them. The singular vectors of W₂ W₁ are as
many rows as its rank; their biases are such that the new units are always on too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deadrelu.certify.bounding import Bounded, bounded
from deadrelu.certify.box import Sampled
from deadrelu.certify.shapes import slope_below_zero
from deadrelu.certify.tape import Node, Tape
from deadrelu.certify.targets import Target
from deadrelu.programs.program import Batch
from deadrelu.remedy.prune.channels import Channels, kind_of
from deadrelu.remedy.prune.couplings import Group
from deadrelu.remedy.prune.cutting import Cutting
from deadrelu.remedy.prune.graphs import Prunable
from deadrelu.report import SiteStats

_RANK = 1e-12
"""Singular values that are smaller, relative to the largest, are 0."""

_TOLERANCE = 1e-5
"""How far merging the units of a site may move the outputs by rounding, relative to the largest."""

_MARGIN = 1e-3
"""How far above 0 the new units stay, relative to the size of what they sum."""

_ELSE = "it is not a ReLU between two linear layers, both with a bias"


@dataclass(frozen=True)
class Merged:
    """Always-on units of a site, and how many are in their place; `reason` says why they stay as they are."""

    units: tuple[int, ...]
    left: int
    reason: str = ""


def merge_units(
    program: Prunable, batches: Sequence[Batch], sites: Sequence[SiteStats], inputs: Sampled
) -> tuple[dict[str, Merged], list[Cutting]]:
    """Merge the always-on units of these sites, in place, as far as the outputs allow it.

    Returns what came of each site, without those that have fewer than two such units, and the changes that were made.
    """
    found: dict[str, Merged] = {}
    steps: list[Cutting] = []
    proof: Bounded | None = None
    for place, stats in enumerate(sites):
        proof = proof or bounded(program, sites[place:], inputs, every=True)
        target = next((each for each in proof.targets if each.stats is stats), None)
        units = () if target is None else tuple(torch.nonzero(target.always_on).flatten().tolist())
        if target is None or len(units) < 2:
            continue
        try:
            group, left = _fewer(proof, Channels(program.module, proof.tape), target, units)
        except ValueError as error:
            found[stats.site.id] = Merged(units, len(units), str(error))
            continue
        step = Cutting(program, batches, rounding=_TOLERANCE)
        why = step.cut([group])
        found[stats.site.id] = Merged(units, len(units) if why else left, why)
        if not why:
            steps.append(step)
            proof = None  # it was of the layers as they were
    return found, steps


@dataclass(frozen=True)
class _Layers:
    """The linear layers before and behind a site, with the row of the one and the column of the other of each unit."""

    first: Node
    second: Node
    rows: Sequence[int]
    columns: Sequence[int]


def _layers(tape: Tape, channels: Channels, target: Target) -> _Layers:
    """The layers of a site. Raises `ValueError` where anything else makes or reads its units."""
    root = channels.joining.root
    several = channels.of_value(target.number).flatten()[target.entries]
    roots = several[:, 0].tolist()
    stuck = channels.joining.stuck()
    if why := next((stuck[each] for each in roots if each in stuck), ""):
        raise ValueError(why)
    if bool((several != several[:, :1]).any()) or len(set(roots)) < len(roots):
        raise ValueError("its units are not the indices of one axis")
    reads = [read for read in channels.reads if set(root(read.channels).tolist()) & set(roots)]
    if len(reads) != 1:
        raise ValueError("more than one layer reads it")
    [read] = reads
    _followed(tape, read.value, target.number, curves=True)
    first = _followed(tape, target.number, None, curves=False)
    for layer in (first, read.node):
        if layer.operator != "addmm" or layer.kwargs or layer.args[0].shape != layer.shape[-1:]:
            raise ValueError(_ELSE)
    own = {channels.parameters.name(each) for each in (first.args[0], first.args[2].t(), read.node.args[2].t())}
    others = {each.place[0] for each in channels.entries if set(root(each.channels).tolist()) & set(roots)} - own
    if others:
        raise ValueError(f"`{min(others)}` has an entry for each unit")
    made = root(channels.of_value(first.number)).reshape(-1, first.shape[-1])[0].tolist()
    taken = root(read.channels).tolist()
    return _Layers(first, read.node, [made.index(each) for each in roots], [taken.index(each) for each in roots])


def _followed(tape: Tape, number: int, end: int | None, *, curves: bool) -> Node:
    """Go back from a value to another, or to a layer, past what moves entries, and `curves` that keep positive ones."""
    node = tape.nodes[number]
    while node.number != end and (end is not None or kind_of(node) != "linear"):
        passes = kind_of(node) == "moves" or (curves and slope_below_zero(node) is not None)
        if not passes or len(node.parents) != 1:
            raise ValueError(_ELSE)
        node = tape.nodes[node.parents[0]]
    return node


def _fewer(proof: Bounded, channels: Channels, target: Target, units: Sequence[int]) -> tuple[Group, int]:
    """What to change so that as few units as possible do what these do, and how many those are.

    Raises `ValueError` with the reason where that cannot be.
    """
    if proof.tape.branch:
        raise ValueError(proof.tape.branch)
    layers, parameters = _layers(proof.tape, channels, target), channels.parameters
    x = proof.bounds.known[layers.first.args[1].number]
    rows, columns = [layers.rows[unit] for unit in units], [layers.columns[unit] for unit in units]
    (b1, w1), (b2, w2) = (
        (layer.args[0].double(), layer.args[2].t().double()) for layer in (layers.first, layers.second)
    )
    left, values, right = torch.linalg.svd(w2[:, columns] @ w1[rows], full_matrices=False)
    rank = max(int((values > _RANK * values[0]).sum()), 1)
    if rank >= len(units):
        raise ValueError("no fewer units do the same")
    left, right = left[:, :rank] * values[:rank], right[:rank]
    low, high = x.low.reshape(-1, w1.shape[1]).amin(0), x.high.reshape(-1, w1.shape[1]).amax(0)
    least = right.clamp(min=0) @ low + right.clamp(max=0) @ high
    lift = _MARGIN * (1 + right.abs() @ torch.maximum(low.abs(), high.abs())) - least
    new_w1, new_b1, new_w2 = w1.clone(), b1.clone(), w2.clone()
    new_w1[rows[:rank]], new_b1[rows[:rank]], new_w2[:, columns[:rank]] = right, lift, left
    new_b2 = b2 + w2[:, columns] @ b1[rows] - left @ lift
    group = Group()
    for layer, weight, bias in ((layers.first, new_w1 - w1, new_b1 - b1), (layers.second, new_w2 - w2, new_b2 - b2)):
        group.shifts |= {parameters.name(layer.args[2].t()): weight, parameters.name(layer.args[0]): bias}
    group.entries |= {
        parameters.place(layers.first.args[2].t(), 0): tuple(rows[rank:]),
        parameters.place(layers.first.args[0], 0): tuple(rows[rank:]),
        parameters.place(layers.second.args[2].t(), 1): tuple(columns[rank:]),
    }
    return group, rank
