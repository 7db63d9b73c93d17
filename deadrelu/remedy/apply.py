"""Scans a model and swaps its activations in memory. Nothing is verified here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from deadrelu.activations import KEEP
from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.dataflow import trace_flows
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.eager.replacement import leaking_units
from deadrelu.programs.program import Program, Swapped
from deadrelu.remedy.candidate import assignment
from deadrelu.remedy.choose import SwapOptions, choose_sites, refuse, swap_of
from deadrelu.remedy.module_edits import expression, module_edit
from deadrelu.remedy.reinit import Restart, reinitialise
from deadrelu.report import ModelInfo, Report, SiteStats
from deadrelu.report.advice import Edit, PatchResult, Refusal, SiteChange
from deadrelu.text.wording import ranges


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A patch in memory: the scan before it, and what was swapped, refused and restarted (by path of the old module).

    `module` is that of the patched program. `paths` are those of all new modules, where some are never called.
    """

    before: Report
    swapped: Swapped
    refused: tuple[Refusal, ...]
    module: nn.Module
    restarts: Mapping[str, Restart] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    python: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def sites(self) -> dict[str, SiteStats]:
        """The swapped sites as they were measured, by id, in the order of the swaps."""
        measured = {stats.site.id: stats for stats in self.before.sites}
        return {site: measured[site] for site in self.swapped.done}

    @property
    def calls(self) -> dict[str, str]:
        """The call of a new module that each swapped site became: `path#1` is the first. Empty for a graph."""
        done = self.swapped.done
        live = ((site, stats.site.call) for site, stats in self.sites.items() if done[site].module is not None)
        return {site: f"{done[site].path}#{number}" for site, number in live}

    @property
    def axes(self) -> dict[str, int | None]:
        """The feature axis of each call of a new module, by `calls`."""
        sites = self.sites
        return {call: sites[site].site.feature_axis for site, call in self.calls.items()}

    @property
    def has_restarts(self) -> bool:
        """Whether any unit was restarted."""
        return any(restart.units for restart in self.restarts.values())


def apply_swaps(
    program: Program, info: ModelInfo, data: DataSpec, options: SwapOptions, plan: Plan, progress: Progress | None
) -> Applied:
    """Scan, choose, swap and restart, in memory. Raises what measuring raises, and `UsageError` for a wrong glob."""
    before = report_on(program, info, open_data(data, program), plan, progress=progress)
    chosen = choose_sites(before.sites, options.sites)
    is_live = isinstance(program, EagerProgram)
    flows = {}
    if options.reinit and chosen and isinstance(program, EagerProgram):
        flows = trace_flows(program, next(iter(open_data(data, program))), chosen)
    swapped = program.swap([swap_of(stats, options) for stats in chosen])
    by_id = {stats.site.id: stats for stats in chosen}
    refused = [
        refuse(by_id[site], reason, options) if is_live else Refusal(site=site, reason=reason)
        for site, reason in swapped.refused.items()
    ]
    groups: dict[str, list[SiteStats]] = {}
    for site in swapped.done:
        groups.setdefault(by_id[site].site.module, []).append(by_id[site])
    slope = options.slope if options.to in ("leaky_relu", "prelu") else 0
    restarts = reinitialise(program.module, groups, flows, slope=slope) if options.reinit else {}
    edits, python = _in_code(program.module, groups, swapped) if is_live and options.to != KEEP else ((), ())
    return Applied(
        before=before,
        swapped=swapped,
        refused=tuple(refused),
        module=program.module,
        restarts=restarts,
        edits=edits,
        python=python,
    )


def _in_code(
    module: nn.Module, groups: Mapping[str, Sequence[SiteStats]], swapped: Swapped
) -> tuple[tuple[Edit, ...], tuple[str, ...]]:
    """The swaps as edits of the source, and in Python for those that no edit can make.

    No edit is right where one line makes the activations of several blocks and these get different replacements.
    """
    new = {path: call.module for path, s in groups.items() if (call := swapped.done[s[0].site.id]).module is not None}
    found = {path: module_edit(module, path, made) for path, made in new.items()}
    written: dict[tuple[str, int, int | None], set[str]] = {}
    for edit in filter(None, found.values()):
        written.setdefault((edit.file, edit.line, edit.column), set()).add(edit.new)
    single = {
        path: edit for path, edit in found.items() if edit and len(written[edit.file, edit.line, edit.column]) == 1
    }
    lines = [assignment(path, expression(made)) for path, made in new.items() if path and path not in single]
    return tuple(dict.fromkeys(single.values())), tuple(lines)


def preview_result(applied: Applied, info: ModelInfo, options: SwapOptions) -> PatchResult:
    """The result as far as it is known before the patched model runs."""
    return PatchResult(
        model=info.path,
        output=None,
        format=info.format,
        samples=applied.before.data.samples,
        changes=tuple(_change(applied, stats, options) for stats in applied.sites.values()),
        refused=applied.refused,
        edits=applied.edits,
        python=applied.python,
        dead_before={stats.site.id: stats.dead for stats in applied.before.sites},
        dead_after={},
        drift=None,
        parameters_changed=(),
    )


def _change(applied: Applied, stats: SiteStats, options: SwapOptions) -> SiteChange:
    """One swapped site, as far as it is known before the patched model runs."""
    call = applied.swapped.done[stats.site.id]
    restart = applied.restarts.get(stats.site.module, Restart())
    note = f"not re-initialised: {restart.obstacle}" if restart.obstacle else ""
    if restart.units and not options.only_dead_units and options.to != KEEP:
        note = "the live units leak too, so the output moves; --only-dead-units keeps it where it was"
    leaking = leaking_units(call.module) if call.module is not None else None
    kept = () if leaking is None else tuple(unit for unit in stats.dead_units if unit not in leaking)
    return SiteChange(
        site=stats.site.id,
        old=call.old,
        new=call.new,
        units=stats.site.units,
        dead_before=stats.dead_units,
        dead_after=(),
        with_gradient=None if call.module is None else (),
        reinitialised=restart.units,
        note="; ".join(filter(None, (note, _still_dead(kept)))),
    )


def _still_dead(units: Sequence[int]) -> str:
    """The note on units that are dead in one call of a shared module and fire in another."""
    if not units:
        return ""
    subject = f"unit {units[0]} stays" if len(units) == 1 else f"units {ranges(units)} stay"
    return f"{subject} dead in this call: the module is shared, and they fire in another of its calls"
