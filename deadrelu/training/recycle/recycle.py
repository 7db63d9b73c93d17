"""Restarts units of a model between two steps: which ones, their weights, and the optimizer's memory of these."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.optim import Optimizer

from deadrelu.errors import UsageError
from deadrelu.judge.definitions import units_within
from deadrelu.programs.eager.dataflow import Flow, trace_flows
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.remedy.moments import Moments, check_state, mend
from deadrelu.remedy.reinit import reinitialise
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites

ChoiceRule = Literal["dormancy", "utility"]
"""By which units are chosen: the size of the output (Sokar et al. 2023), or the contribution (Dohare et al. 2024)."""


_NO_FLOW = "it is not a module of its own whose units are the indices of a known axis"


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

    def concerns(self, stats: SiteStats) -> bool:
        """Whether units of this site may be restarted."""
        return self.rule == "utility" or bool(self.tau or stats.dead)

    def units(self, stats: SiteStats, flow: Flow) -> tuple[int, ...]:
        """The units of a site that are to be restarted, as far as its flow allows that."""
        able: Iterable[int] = range(stats.site.units)
        scores = [0.0 if score is None else score for score in stats.dormancy]
        if self.rule == "utility":
            scores = _utility(stats, flow)
        elif self.tau:
            able = units_within(stats, "redo", self.tau)
        else:
            able = [unit for unit in stats.dead_units if stats.mean_activation[unit] == 0]
        able = sorted(able, key=lambda unit: (scores[unit], unit))
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
    wanted = [stats for stats in report.sites if choice.concerns(stats)]
    if not wanted:
        return {}
    if optimizer is not None and moments != "keep":
        check_state(optimizer.state.items(), type(optimizer).__name__)
    flows = trace_flows(program, batch, wanted)
    out: dict[str, Recycled] = {}
    groups: dict[str, list[SiteStats]] = {}
    for stats in wanted:
        flow = flows.get(stats.site.module) or Flow(obstacle=_NO_FLOW)
        if units := choice.units(stats, flow):
            out[stats.site.id] = Recycled(stats.site.id, obstacle=flow.obstacle)
            groups.setdefault(stats.site.module, []).append(replace(stats, dead_units=units))
    restarts = reinitialise(program.module, groups, flows, slope=0.0, seed=seed)
    for stats in (stats for calls in groups.values() for stats in calls):
        id, restart = stats.site.id, restarts[stats.site.module]
        out[id] = replace(out[id], units=restart.units, tensors=restart.tensors)
        if restart.units and optimizer is not None:
            live = set(range(stats.site.units)) - set(restart.units) - set(report.sites[id].dead_units)
            for entries in restart.entries:
                mend(optimizer.state.get(entries.parameter, {}), entries, restart.units, live, moments)
    return out


def known_dead(report: Report, known: Mapping[str, Collection[int]]) -> Report:
    """The report with those of its dead units that are `known` to be, by site."""

    def changed(stats: SiteStats) -> SiteStats:
        units = known.get(stats.site.id, ())
        return replace(stats, dead_units=tuple(unit for unit in stats.dead_units if unit in units))

    return replace(report, sites=Sites(map(changed, report.sites)))


@torch.no_grad()
def _utility(stats: SiteStats, flow: Flow) -> list[float]:
    """Mean |output| times the sum of |outgoing weights|, by unit: the contribution of Dohare et al. 2024."""
    out = torch.zeros(stats.site.units, dtype=torch.float64)
    for consumer in () if flow.obstacle else flow.consumers:
        weight = consumer.layer.weight.detach().abs().double().cpu().movedim(1, 0).flatten(1).sum(1)
        out += weight.unflatten(0, (stats.site.units, consumer.width)).sum(1)
    return [abs(mean or 0.0) * float(size) for mean, size in zip(stats.mean_activation, out, strict=True)]
