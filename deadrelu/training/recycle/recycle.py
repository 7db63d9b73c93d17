"""Restarts units of a model between two steps: which ones, their weights, and the optimizer's memory of these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from deadrelu.errors import UsageError
from deadrelu.judge.definitions import units_within
from deadrelu.programs.eager.dataflow import Flow, trace_flows
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.remedy.reinit import reinitialise
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites
from deadrelu.training.recycle.moments import Moments, UnitEntries, check_state, mend

ChoiceRule = Literal["dormancy", "utility"]
"""By which units are chosen: the size of the output (Sokar et al. 2023), or the contribution (Dohare et al. 2024)."""


@dataclass(frozen=True)
class Recycled:
    """What was restarted at one site: its units, the tensors that changed, or the `obstacle` that kept it as it is."""

    site: str
    units: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class UnitChoice:
    """Which units are restarted: those with a score of at most `tau`, at most the share `most` of a site, least first.

    With `tau` 0 these are the dead units whose output is exactly 0, and the model's output does not move.
    """

    rule: ChoiceRule = "dormancy"
    tau: float = 0.0
    most: float = 1.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a rule that is not known, or that would restart everything."""
        if self.rule not in ("dormancy", "utility"):
            raise UsageError(f"rule={self.rule!r} is not known", hint="'dormancy' or 'utility'")
        if not self.tau >= 0:
            raise UsageError(f"tau={self.tau:g} is below 0", hint="0 takes dead units, 0.025 what ReDo calls dormant")
        if not 0 < self.most <= 1:
            raise UsageError(f"most={self.most:g} is not a share", hint="most=0.1 restarts a tenth of a site at once")
        if self.rule == "utility" and self.most == 1:
            raise UsageError(
                "by utility the least useful units are restarted, and there is no limit", hint="give most=0.01"
            )

    def units(self, stats: SiteStats, flow: Flow | None) -> tuple[int, ...]:
        """The units of a site that are to be restarted."""
        if self.rule == "utility":
            scores = _utility(stats, flow)
            able = [unit for unit in range(stats.site.units) if scores is not None]
        else:
            scores = [0.0 if score is None else score for score in stats.dormancy]
            chosen = units_within(stats, "redo", self.tau) if self.tau else stats.dead_units
            able = [unit for unit in chosen if self.tau or stats.mean_activation[unit] == 0]
        if scores is None:
            return ()
        able.sort(key=lambda unit: (scores[unit], unit))
        return tuple(sorted(able[: math.floor(self.most * stats.site.units)]))


def recycle(
    program: EagerProgram,
    optimizer: Optimizer | None,
    report: Report,
    batch: Batch,
    choice: UnitChoice,
    *,
    moments: Moments = "live mean",
    seed: int = 0,
) -> Mapping[str, Recycled]:
    """Restart the units that `choice` takes of each site of `report`, in place; by the site's id, where there are any.

    The weights into a unit are drawn new, its bias is 0 and its batch norm neutral, the weights out of it are 0 (Sokar
    et al. 2023); the optimizer's memory of exactly these weights is mended. `batch` shows what feeds a unit and what
    reads it; a site of which that is not known stays as it is. Raises `UsageError` before anything is changed.
    """
    wanted = [stats for stats in report.sites if choice.rule == "utility" or stats.dead or choice.tau]
    if not wanted:
        return {}
    if optimizer is not None and moments != "keep":
        check_state(optimizer.state.items(), type(optimizer).__name__)
    flows = trace_flows(program, batch, wanted)
    chosen = {s.site.id: (s, units) for s in wanted if (units := choice.units(s, flows.get(s.site.module)))}
    groups: dict[str, list[SiteStats]] = {}
    for stats, units in chosen.values():
        groups.setdefault(stats.site.module, []).append(replace(stats, dead_units=units))
    restarts = reinitialise(program.module, groups, flows, slope=0.0, seed=seed)
    out = {}
    for id, (stats, _) in chosen.items():
        restart = restarts[stats.site.module]
        out[id] = Recycled(id, restart.units, restart.tensors, restart.obstacle)
        if restart.units and optimizer is not None:
            _mend(optimizer, flows[stats.site.module], stats, restart.units, moments)
    return out


def with_dead_units(report: Report, dead: Mapping[str, Iterable[int]]) -> Report:
    """The report with other dead units at its sites, whose outputs are 0."""

    def changed(stats: SiteStats) -> SiteStats:
        units = tuple(sorted(dead.get(stats.site.id, ())))
        zeros = tuple(0.0 if unit in units else 1.0 for unit in range(stats.site.units))
        return replace(stats, dead_units=units, mean_activation=zeros, dormancy=zeros)

    return replace(report, sites=Sites(map(changed, report.sites)))


def _mend(optimizer: Optimizer, flow: Flow, stats: SiteStats, new: tuple[int, ...], moments: Moments) -> None:
    """Mend what the optimizer remembers of the weights of new units."""
    live = set(range(stats.site.units)) - set(new) - set(stats.dead_units)
    for entries in entries_of(flow):
        state = optimizer.state.get(entries.parameter)
        if state:
            mend(state, entries, new, live, moments)


def entries_of(flow: Flow) -> list[UnitEntries]:
    """The parameters that a restart changes, and where the units are in them."""
    assert flow.producer is not None  # a flow without an obstacle has one
    rows = [flow.producer.weight, flow.producer.bias]
    if flow.norm is not None:
        rows += [flow.norm.weight, flow.norm.bias]
    found = [UnitEntries(tensor) for tensor in rows if isinstance(tensor, Tensor)]
    return found + [UnitEntries(consumer.layer.weight, 1, consumer.width) for consumer in flow.consumers]


@torch.no_grad()
def _utility(stats: SiteStats, flow: Flow | None) -> list[float] | None:
    """Mean |output| times the sum of |outgoing weights|, by unit: the contribution of Dohare et al. 2024.

    None where the weights out are not known.
    """
    means = stats.mean_activation
    if flow is None or flow.obstacle or any(mean is None for mean in means):
        return None
    out = torch.zeros(stats.site.units, dtype=torch.float64)
    for consumer in flow.consumers:
        weight = consumer.layer.weight.detach().abs().double().cpu().movedim(1, 0).flatten(1).sum(1)
        out += weight.unflatten(0, (stats.site.units, consumer.width)).sum(1)
    return [abs(mean or 0.0) * float(size) for mean, size in zip(means, out, strict=True)]
