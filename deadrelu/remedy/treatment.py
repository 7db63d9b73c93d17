"""One eager model under treatment: what was scanned, chosen, restarted and swapped in memory, and the check of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import ModelError
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.remedy.candidate import assignment
from deadrelu.remedy.module_edits import expression, module_edit
from deadrelu.remedy.reinit import Restart, reinitialise
from deadrelu.remedy.swap import ModuleSwap, SwapOptions, apply, module_path, plan
from deadrelu.remedy.verify import Evidence
from deadrelu.report import ModelInfo, Report
from deadrelu.report.advice import Edit, PatchResult, Refusal, SiteChange
from deadrelu.text.wording import ranges


@dataclass(frozen=True)
class Treatment:
    """What was decided and done in memory: the scan before it, the swaps, what was refused, what was restarted."""

    report: Report
    swaps: tuple[ModuleSwap, ...]
    refused: tuple[Refusal, ...]
    restarts: Mapping[str, Restart]
    old: Mapping[str, str]
    paths: Mapping[str, str]
    edits: tuple[Edit, ...]
    python: tuple[str, ...]
    module: nn.Module
    undo: Callable[[], None]

    @property
    def axes(self) -> dict[str, int | None]:
        """The feature axis of each call of a new module, by `calls`."""
        axes = {stats.site.id: stats.site.feature_axis for swap in self.swaps for stats in swap.sites}
        return {call: axes[site] for site, call in self.calls.items()}

    @property
    def has_restarts(self) -> bool:
        """Whether any unit was restarted."""
        return any(restart.units for restart in self.restarts.values())

    @property
    def calls(self) -> dict[str, str]:
        """Which call of which new module each swapped site is: `path#1` is the first of `path`."""
        return {
            stats.site.id: f"{self.paths[swap.path]}#{stats.site.call}" for swap in self.swaps for stats in swap.sites
        }


def treat(
    program: EagerProgram,
    info: ModelInfo,
    data: DataSpec,
    wanted: SwapOptions,
    scope: Plan,
    progress: Progress | None,
) -> Treatment:
    """Scan, choose, restart and swap in memory."""
    batches = open_data(data, program)
    report = report_on(program, info, batches, scope, progress=progress)
    swaps, refused = plan(program.module, report, wanted)
    restarts: Mapping[str, Restart] = {}
    if wanted.reinit and swaps:
        first = next(iter(open_data(data, program)))
        restarts = reinitialise(
            program, first, swaps, slope=wanted.slope if wanted.to in ("leaky_relu", "prelu") else 0
        )
    old = {swap.path: repr(program.module.get_submodule(swap.path)) for swap in swaps}
    paths = {swap.path: module_path(program.module, swap) for swap in swaps}
    edits, python = _in_code(program.module, swaps)
    module, undo = apply(program.module, swaps)
    return Treatment(
        report=report,
        swaps=tuple(swaps),
        refused=tuple(refused),
        restarts=restarts,
        old=old,
        paths=paths,
        edits=edits,
        python=python,
        module=module,
        undo=undo,
    )


def _in_code(module: nn.Module, swaps: Sequence[ModuleSwap]) -> tuple[tuple[Edit, ...], tuple[str, ...]]:
    """The swaps in the source, and in Python for those that no edit can make.

    Where one line makes the activations of several blocks, and these are not swapped for the same, no edit is right.
    """
    found = {swap.path: module_edit(module, swap.path, swap.new) for swap in swaps}
    made: dict[tuple[str, int, int | None], set[str]] = {}
    for edit in filter(None, found.values()):
        made.setdefault((edit.file, edit.line, edit.column), set()).add(edit.new)
    single = {path: edit for path, edit in found.items() if edit and len(made[edit.file, edit.line, edit.column]) == 1}
    lines = [assignment(swap.path, expression(swap.new)) for swap in swaps if swap.path and swap.path not in single]
    return tuple(dict.fromkeys(single.values())), tuple(lines)


def decided(treatment: Treatment, info: ModelInfo, wanted: SwapOptions) -> PatchResult:
    """The result as far as it is known without a proof."""
    changes = []
    for swap in treatment.swaps:
        restart = treatment.restarts.get(swap.path, Restart())
        note = f"not re-initialised: {restart.obstacle}" if restart.obstacle else ""
        if restart.units and not wanted.only_dead_units:
            note = "the live units leak too, so the output moves; --only-dead-units keeps it where it was"
        leaks = _leaks(swap.new)
        for stats in swap.sites:
            kept = () if leaks is None else tuple(unit for unit in stats.dead_units if unit not in leaks)
            changes.append(
                SiteChange(
                    site=stats.site.id,
                    old=treatment.old[swap.path],
                    new=_shown(swap.new),
                    units=stats.site.units,
                    dead_before=stats.dead_units,
                    dead_after=(),
                    with_gradient=(),
                    reinitialised=restart.units,
                    note="; ".join(filter(None, (note, _stays(kept)))),
                )
            )
    return PatchResult(
        model=info.path,
        output=None,
        format=info.format,
        samples=treatment.report.data.samples,
        changes=tuple(changes),
        refused=treatment.refused,
        edits=treatment.edits,
        python=treatment.python,
        dead_before={stats.site.id: stats.dead for stats in treatment.report.sites},
        dead_after={},
        drift=None,
        parameters_changed=(),
    )


def proved(result: PatchResult, treatment: Treatment, after: Report | None, evidence: Evidence) -> PatchResult:
    """The result with what was seen of the patched model. Raises `ModelError` where that is not what was meant."""
    calls = treatment.calls
    changes = tuple(_with_evidence(change, calls[change.site], evidence) for change in result.changes)
    _check(treatment, changes, evidence)
    dead_after = {stats.site.id: stats.dead for stats in after.sites} if after else {}
    dead_after |= {change.site: len(change.dead_after) for change in changes}
    order = {site: dead_after[site] for site in result.dead_before if site in dead_after}
    gone = [site for site in result.dead_before if site not in dead_after]
    notes = [f"no gradient was taken: {evidence.no_gradient}"] if evidence.no_gradient else []
    if gone:
        notes.append(f"these sites do not run any more on this data: {', '.join(gone)}")
    if evidence.parameters_added:
        notes.append(f"new parameters: {', '.join(evidence.parameters_added)}")
    return replace(
        result,
        changes=changes,
        dead_after=order | dead_after,
        drift=evidence.drift,
        parameters_changed=evidence.parameters_changed,
        notes=tuple(notes),
        gradient_steps=evidence.steps,
    )


def _with_evidence(change: SiteChange, call: str, evidence: Evidence) -> SiteChange:
    """The change with what was seen at this call of the new module."""
    alive, reached = evidence.alive.get(call, ()), evidence.reached.get(call, ())
    return replace(
        change,
        dead_after=tuple(unit for unit, lives in enumerate(alive) if not lives),
        with_gradient=tuple(unit for unit in change.dead_before if unit < len(reached) and reached[unit]),
    )


def _check(treatment: Treatment, changes: Sequence[SiteChange], evidence: Evidence) -> None:
    """Refuse a file that is not what was meant: another structure, other weights, or units that are still dead."""
    meant = {name for restart in treatment.restarts.values() for name in restart.tensors}
    roots = tuple(treatment.paths.values())

    def inside(name: str) -> bool:
        return any(root == "" or name == root or name.startswith(f"{root}.") for root in roots)

    shared = {id(swap.new) for swap in treatment.swaps}
    aliases = {path for path, m in treatment.module.named_modules(remove_duplicate=False) if id(m) in shared}
    wrong = [name for name in evidence.parameters_changed if name not in meant and not inside(name)]
    wrong += [name for name in evidence.parameters_added if not inside(name) and name.rpartition(".")[0] not in aliases]
    wrong += [
        p for p in evidence.modules_changed if not inside(p) and not any(f"{p}.".startswith(f"{a}.") for a in aliases)
    ]
    if wrong:
        raise ModelError(
            f"the patched model differs where it should not: {', '.join(wrong[:6])}", hint="please report it"
        )
    by_site = {change.site: change for change in changes}
    for swap in treatment.swaps:
        if not isinstance(swap.new, (nn.LeakyReLU, nn.PReLU)):
            continue
        leaks = _leaks(swap.new)
        for change in (by_site[stats.site.id] for stats in swap.sites):
            meant_to_leak = set(change.dead_before) if leaks is None else leaks
            still = [unit for unit in change.dead_before if unit in change.dead_after and unit in meant_to_leak]
            if still:
                raise ModelError(f"units {still[:6]} of {change.site} are still dead", hint="please report it")


def _leaks(module: nn.Module) -> set[int] | None:
    """The units in which a new module leaks; None for all of them."""
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return set(module.weight.nonzero().flatten().tolist())
    return None


def _stays(units: Sequence[int]) -> str:
    """What is said of units that are dead in one call of a shared module and fire in another."""
    if not units:
        return ""
    subject = f"unit {units[0]} stays" if len(units) == 1 else f"units {ranges(units)} stay"
    return f"{subject} dead in this call: the module is shared, and they fire in another of its calls"


def _shown(module: nn.Module) -> str:
    """A module as one line; a PReLU whose units differ says how many of them leak."""
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        leaks = int((module.weight != 0).sum())
        return f"PReLU(num_parameters={module.num_parameters}), {leaks} of them leak"
    return " ".join(repr(module).split())
