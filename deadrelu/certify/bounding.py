"""Records a program, and bounds the pre-activations of its sites over a box of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from deadrelu.certify.backward import Backward
from deadrelu.certify.box import Sampled
from deadrelu.certify.intervals import Bounds, Interval
from deadrelu.certify.record import record
from deadrelu.certify.tape import Tape
from deadrelu.certify.targets import Target, strangers, targets_of
from deadrelu.programs.program import Program
from deadrelu.report import SiteStats

WORK = 2e8
"""The most entries of the coefficients of linear bounds, of all values together, for one value."""


@dataclass(frozen=True)
class Bounded:
    """The tape of a program, bounds of its values, its sites that have some, and why others have none, by id."""

    tape: Tape
    bounds: Bounds
    targets: tuple[Target, ...]
    obstacles: dict[str, str]


@torch.no_grad()
def bounded(program: Program, sites: Sequence[SiteStats], inputs: Sampled, *, every: bool = False) -> Bounded:
    """Bound every value that a site needs; settles the targets.

    By intervals, and before sites with silent units, or `every` site, by linear bounds too, where intervals leave it
    open. Raises what the model raises.
    """
    tape = record(program, inputs.one)
    targets, obstacles = targets_of(tape, sites)
    obstacles |= strangers(program, tape, targets, inputs)
    targets = [target for target in targets if target.stats.site.id not in obstacles]
    closer = [target for target in targets if every or bool(target.silent.any())]
    bounds = _bound(tape, inputs, targets, closer)
    for target in targets:
        found = bounds.known.get(target.number)
        if found is None:
            obstacles[target.stats.site.id] = bounds.unknown[target.number]
        else:
            target.settle(found.low.flatten(), found.high.flatten())
    return Bounded(tape, bounds, tuple(each for each in targets if each.stats.site.id not in obstacles), obstacles)


def _bound(tape: Tape, inputs: Sampled, targets: Iterable[Target], closer: Iterable[Target]) -> Bounds:
    """Bounds of what these sites need, `closer` where linear ones are looked for."""
    box = {n: (low, high) for n, low, high in zip(tape.inputs, inputs.low, inputs.high, strict=True)}
    bounds = Bounds()
    backward = Backward(tape, bounds)
    needed = tape.ancestors([target.number for target in targets])
    wanted = [target.number for target in closer]
    before = tape.ancestors(wanted)
    curved = {*wanted, *(node.parents[0] for node in tape.nodes if node.number in before and backward.bends(node))}
    size = 0
    for node in tape.nodes:
        if node.number not in needed:
            continue
        found = bounds.add(node, box)
        size += node.shape.numel()
        if found is None or node.number not in curved:
            continue
        entries = torch.nonzero(((found.low < 0) & (found.high > 0)).flatten()).flatten()
        if len(entries) and len(entries) * size <= WORK:
            low, high = found.low.flatten().clone(), found.high.flatten().clone()
            least, most = backward.both(node.number, entries)
            low[entries], high[entries] = torch.maximum(low[entries], least), torch.minimum(high[entries], most)
            bounds.known[node.number] = Interval(low.view(node.shape), high.view(node.shape), found.error)
    return bounds
