"""Proves which silent units of a program no input of a box wakes, and finds inputs that wake others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deadrelu.activations import BY_NAME
from deadrelu.certify.affine import is_affine
from deadrelu.certify.backward import Backward
from deadrelu.certify.bounding import WORK, bounded
from deadrelu.certify.box import Sampled, rows_of
from deadrelu.certify.exact import Exact, TooLargeError
from deadrelu.certify.intervals import Bounds, Interval
from deadrelu.certify.tape import Tape
from deadrelu.certify.targets import Target, never, observed
from deadrelu.certify.witness import Search, nearest, taped_values
from deadrelu.programs.program import Batch, Program
from deadrelu.report import SiteStats
from deadrelu.report.proof import SiteProof

_PATIENCE = 20.0
"""Seconds of the exact solver for one value at most."""


@dataclass(frozen=True)
class Witness:
    """An input of the box, as the model takes it for one sample, that makes a unit of a site fire."""

    site: str
    unit: int
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Certified:
    """What was proved and found, by site in the order of the report; the seconds that each part took."""

    sites: tuple[SiteProof, ...]
    witnesses: tuple[Witness, ...]
    seconds: Mapping[str, float]


@torch.no_grad()
def prove(
    program: Program,
    sites: Iterable[SiteStats],
    inputs: Sampled,
    data: Iterable[Batch],
    *,
    exact: float | None = None,
    seed: int = 0,
) -> Certified:
    """Bound the pre-activations of these sites over the box, and look for inputs that wake what is not proved.

    `data` is read once more, for the range of the features before each layer. Only rectifiers have dead units; other
    sites are left out. What stays open is given to an exact solver for up to `exact` seconds in all. Raises what the
    model raises.
    """
    seconds: dict[str, float] = {}
    wanted = [stats for stats in sites if (kind := BY_NAME.get(stats.site.op)) is not None and kind.region is not None]
    start = time.perf_counter()
    found = bounded(program, wanted, inputs)
    tape, bounds, targets, obstacles = found.tape, found.bounds, found.targets, found.obstacles
    seconds["bounds"] = time.perf_counter() - start

    start = time.perf_counter()
    witnesses = list(_wake(program, tape, bounds, targets, inputs, seed))
    seconds["search"] = time.perf_counter() - start

    start = time.perf_counter()
    for target in targets:
        _optimise(tape, bounds, target)
    seconds["slopes"] = time.perf_counter() - start

    start = time.perf_counter()
    _condition(tape, targets, data)
    seconds["features"] = time.perf_counter() - start
    if exact is not None:
        start = time.perf_counter()
        for target in targets:
            witnesses += _decide(program, tape, bounds, target, inputs, start + exact)
        seconds["exact"] = time.perf_counter() - start
    by_id = {target.stats.site.id: target for target in targets}
    return Certified(
        sites=tuple(_result(stats, by_id.get(stats.site.id), obstacles.get(stats.site.id)) for stats in wanted),
        witnesses=tuple(witnesses),
        seconds=seconds,
    )


def _wake(
    program: Program, tape: Tape, bounds: Bounds, targets: Sequence[Target], inputs: Sampled, seed: int
) -> Iterator[Witness]:
    """Look for an input for each silent unit that is not proved; a plain forward pass decides whether it is one."""
    sick = [(target, target.undecided) for target in targets if len(target.undecided)]
    searches = [Search(tape, target.number, target.entries[units], target.region, inputs) for target, units in sick]
    for (target, units), search, near in zip(sick, searches, nearest(tape, searches, inputs), strict=True):
        found = search.run(near, _corners(tape, bounds, search), seed=seed)
        yield from _confirmed(program, target, inputs, [(int(units[place]), each) for place, each in found.items()])


def _corners(tape: Tape, bounds: Bounds, search: Search) -> list[Tensor]:
    """For each unit the corner of the box at which its linear bound is largest; of a large network only the lowest."""
    units = len(search.entries)
    lowest = [low.expand(units, *low.shape) for low in search.inputs.low]
    if units * tape.size(search.number) > WORK:
        return lowest
    high = bounds.known[search.number].high.flatten()[search.entries].argmax(1, keepdim=True)
    at = Backward(tape, bounds).corners(search.number, search.entries.gather(1, high).flatten())
    return [at[n].to(low.dtype) if n in at else low for n, low in zip(tape.inputs, lowest, strict=True)]


def _optimise(tape: Tape, bounds: Bounds, target: Target) -> None:
    """Better linear bounds for the units that are still open.

    First at the position whose bound is highest; at the others only where that decides this one.
    """
    units = target.undecided
    if not len(units) or target.region.outside:
        return
    backward, limit = Backward(tape, bounds), target.region.low
    most = int(WORK // (tape.size(target.number) * 8))
    entries = target.entries[units]
    high = bounds.known[target.number].high.flatten()[entries]
    worst = torch.zeros_like(entries, dtype=torch.bool).scatter(1, high.argmax(1, keepdim=True), True)
    for chosen in (worst, ~worst & (high > limit)):
        chosen &= (high.where(worst, -torch.inf).amax(1, keepdim=True) <= limit) | worst
        if 0 < int(chosen.sum()) <= most:
            high[chosen] = torch.minimum(high[chosen], backward.optimised(target.number, entries[chosen], limit))
    target.proved[units] |= (high <= limit).all(1)
    target.upper[units] = torch.minimum(target.upper[units], high.amax(1))


def _decide(
    program: Program, tape: Tape, bounds: Bounds, target: Target, inputs: Sampled, until: float
) -> Iterator[Witness]:
    """Give the units that are still open to the exact solver, each a fair share of the time that is left."""
    units = target.undecided.tolist()
    if (
        not units
        or target.region.low != 0
        or target.region.outside
        or not tape.ancestors([target.number]) <= bounds.known.keys()
    ):
        return
    try:
        program_of_site = Exact(tape, bounds, target.number)
    except TooLargeError:
        return
    for place, unit in enumerate(units):
        answers = []
        for entry in target.entries[unit].tolist():
            left = (until - time.perf_counter()) / (len(units) - place)
            answer, values = program_of_site.decide(entry, min(left, _PATIENCE))
            answers.append(answer)
            if answer == "yes":
                yield from _confirmed(program, target, inputs, [(unit, values)])
                break
            if answer == "open":
                break
        if all(answer == "no" for answer in answers):
            target.proved[unit] = True
            target.upper[unit] = min(float(target.upper[unit]), 0.0)


def _confirmed(
    program: Program, target: Target, inputs: Sampled, found: Sequence[tuple[int, Sequence[Tensor]]]
) -> Iterator[Witness]:
    """The inputs of the box, with their units, for which a plain forward pass makes the unit fire."""
    fitted = [
        [
            torch.minimum(torch.maximum(value.to(low.dtype), low), high)
            for value, low, high in zip(values, inputs.low, inputs.high, strict=True)
        ]
        for _, values in found
    ]
    passes = observed(program, map(inputs.batch_of, fitted))
    for (unit, _), values, seen in zip(found, fitted, passes, strict=True):
        z = seen.get(target.stats.site.id)
        if z is not None and any(each in target.region for each in z.flatten()[target.entries[unit]].tolist()):
            target.woken[unit] = True
            yield Witness(target.stats.site.id, unit, tuple(values))


def _condition(tape: Tape, targets: Sequence[Target], data: Iterable[Batch]) -> None:
    """Prove units that are not dead for all of the box by the range of the features before their layer, on the data."""
    left = [target for target in targets if (target.silent & ~target.proved).any()]
    fronts = {target.number: _front(tape, target.number) for target in left}
    ranges = _ranges(tape, sorted({number for front in fronts.values() for number in front} - set(tape.inputs)), data)
    for target in left:
        if not fronts[target.number] <= ranges.keys():
            continue  # the inputs themselves: that is the box
        bounds = Bounds(known={number: ranges[number] for number in fronts[target.number]})
        for node in tape.nodes[: target.number + 1]:
            if node.number not in bounds.known and node.parents and all(p in bounds.known for p in node.parents):
                bounds.add(node, {})
        found = bounds.known.get(target.number)
        if found is not None:
            units = torch.nonzero(target.silent & ~target.proved).flatten()
            low, high = (end.flatten()[target.entries[units]] for end in (found.low, found.high))
            target.conditional[units] = never(target.region, low, high).all(1)


def _ranges(tape: Tape, wanted: Sequence[int], data: Iterable[Batch]) -> dict[int, Interval]:
    """The range of each of these values over all of the data."""
    ranges: dict[int, Interval] = {}
    at_once = min(map(tape.rows_at_once, wanted), default=1)
    for batch in data if wanted else ():
        for rows in zip(*(each.split(at_once) for each in rows_of(batch)), strict=True):
            for number, values in zip(wanted, taped_values(tape, wanted, rows), strict=True):
                z = values.double()
                low, high = z.amin(0), z.amax(0)
                if number in ranges:
                    low, high = torch.minimum(low, ranges[number].low), torch.maximum(high, ranges[number].high)
                ranges[number] = Interval(low, high, torch.zeros_like(low))
    return ranges


def _front(tape: Tape, number: int) -> set[int]:
    """The values from which one is computed by affine operators alone."""
    front: set[int] = set()
    waiting = [number]
    while waiting:
        node = tape.nodes[waiting.pop()]
        if node.parents and is_affine(node):
            waiting += node.parents
        else:
            front.add(node.number)
    return front - {number}


def _result(stats: SiteStats, target: Target | None, obstacle: str | None) -> SiteProof:
    """One site as it is reported."""
    plain = SiteProof(id=stats.site.id, op=stats.site.op, units=stats.site.units, silent=stats.dead, obstacle=obstacle)
    if target is None:
        return replace(plain, open_units=stats.dead_units, upper_bound=(None,) * stats.site.units)

    def numbers(which: Tensor) -> tuple[int, ...]:
        return tuple(torch.nonzero(which).flatten().tolist())

    return replace(
        plain,
        proved_units=numbers(target.silent & target.proved),
        woken_units=numbers(target.silent & target.woken),
        open_units=numbers(target.silent & ~target.proved & ~target.woken),
        conditional_units=numbers(target.silent & target.conditional),
        always_on_units=numbers(target.always_on),
        upper_bound=tuple(each if each < torch.inf else None for each in target.upper.tolist()),
    )
