"""The sites on a tape, where their units are in its values, and what is known of each unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deadrelu.activations import BY_NAME
from deadrelu.certify.box import Sampled
from deadrelu.certify.tape import Tape
from deadrelu.flatness import Region
from deadrelu.measure.units import by_unit
from deadrelu.programs.program import Batch, CallSite, Program
from deadrelu.report import SiteStats

_CHECKED = 3
"""So many samples are run to see that the recorded operators compute what the model computes."""


@dataclass
class Target:
    """A site to prove something of: its value on the tape, and where its units are in that.

    `entries` are (units, positions), indices into the flat value; `silent` the units that did not fire on the data.
    """

    stats: SiteStats
    site: CallSite
    number: int
    entries: Tensor
    region: Region
    silent: Tensor
    proved: Tensor = field(init=False)
    always_on: Tensor = field(init=False)
    upper: Tensor = field(init=False)
    woken: Tensor = field(init=False)
    conditional: Tensor = field(init=False)

    def __post_init__(self) -> None:
        units = len(self.entries)
        self.proved, self.always_on, self.woken, self.conditional = (
            torch.zeros(units, dtype=torch.bool) for _ in range(4)
        )
        self.upper = torch.full((units,), torch.inf, dtype=torch.float64)

    def settle(self, low: Tensor, high: Tensor) -> None:
        """Read bounds of the flat value: which units cannot fire, and which always do."""
        low, high = low[self.entries], high[self.entries]
        self.proved |= never(self.region, low, high).all(1)
        self.always_on |= always(self.region, low, high).all(1)
        self.upper = torch.minimum(self.upper, high.amax(1))

    @property
    def undecided(self) -> Tensor:
        """The silent units of which nothing is known yet."""
        return torch.nonzero(self.silent & ~self.proved & ~self.woken).flatten()


def never(region: Region, low: Tensor, high: Tensor) -> Tensor:
    """Whether no value between these bounds fires."""
    if region.outside:
        return (low >= region.low) & (high <= region.high)
    return (high <= region.low) | (low >= region.high)


def always(region: Region, low: Tensor, high: Tensor) -> Tensor:
    """Whether every value between these bounds fires."""
    if region.outside:
        return (low > region.high) | (high < region.low)
    return (low > region.low) & (high < region.high)


def targets_of(tape: Tape, wanted: Sequence[SiteStats]) -> tuple[list[Target], dict[str, str]]:
    """The sites on the tape, and why others are not."""
    by_id = {taped.site.id: taped for taped in tape.sites}
    targets: list[Target] = []
    obstacles: dict[str, str] = {}
    for stats in wanted:
        id, taped = stats.site.id, by_id.get(stats.site.id)
        kind = BY_NAME[stats.site.op]
        if taped is None:
            obstacles[id] = "it did not run for the first sample alone"
        elif why := taped.obstacle or _obstacle(tape, taped.number):
            obstacles[id] = why
        elif taped.number is None:
            obstacles[id] = "its pre-activation does not depend on the input"
        elif taped.site.rectified:
            obstacles[id] = "its ReLU is fused into the layer before it, so that there is no pre-activation"
        elif stats.site.is_guessed:
            obstacles[id] = "the axis of its units is a guess: name it with --feature-axis"
        elif kind.region is not None:
            node = tape.nodes[taped.number]
            index = torch.arange(node.shape.numel()).view(node.shape)
            entries = by_unit(taped.site.features.apart(index), taped.site.features).movedim(1, 0).flatten(1)
            if len(entries) != stats.site.units:
                obstacles[id] = "its units are not where they are in a scan"
                continue
            silent = torch.zeros(len(entries), dtype=torch.bool)
            silent[list(stats.dead_units)] = True
            targets.append(Target(stats, taped.site, taped.number, entries, kind.region(taped.site.parameters), silent))
    return targets, obstacles


def _obstacle(tape: Tape, number: int | None) -> str:
    """Why a value is not known for every input; empty if it is."""
    needed = set() if number is None else tape.ancestors([number])
    return next((node.obstacle for node in tape.nodes if node.number in needed and node.obstacle), "")


def strangers(program: Program, tape: Tape, targets: Sequence[Target], inputs: Sampled) -> dict[str, str]:
    """Which sites get something else from the model than from the recorded operators, on samples of the data."""
    places = torch.linspace(0, len(inputs.rows[0]) - 1, _CHECKED).round().long().unique().tolist()
    why = "the model computes it with something other than operators of torch, or branches on its data"
    found: dict[str, str] = {}
    samples = [[each[place] for each in inputs.rows] for place in places]
    for values, seen in zip(samples, observed(program, map(inputs.batch_of, samples)), strict=True):
        with torch.no_grad():
            taped = tape.values(values, [target.number for target in targets])
        for target in targets:
            z, other = seen.get(target.stats.site.id), taped[target.number]
            if (
                z is None
                or z.shape != other.shape
                or not torch.allclose(z, other, rtol=1e-4, atol=1e-5, equal_nan=True)
            ):
                found[target.stats.site.id] = why
    return found


def observed(program: Program, batches: Iterable[Batch]) -> Iterator[dict[str, Tensor]]:
    """The pre-activation of each site in a plain forward pass of each batch."""
    seen: list[tuple[CallSite, Tensor]] = []
    with program.watched(lambda site, z: seen.append((site, z.detach().clone()))) as run:
        for batch in batches:
            seen.clear()
            run(batch)
            yield {site.id: z for site, z in seen}
