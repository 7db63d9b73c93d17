"""The remedy for models that are graphs, TorchScript and torch.export, whose calls can be swapped one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import ModelError, UsageError
from deadrelu.files.writing import replacing
from deadrelu.judge.swapped import LostSite, match_leaky
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import sha256_of
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch, Program, Swap, Swapped
from deadrelu.remedy.reopen import opening_of_patched, reopen
from deadrelu.remedy.swap import SwapOptions, choose_sites
from deadrelu.remedy.verify import Evidence
from deadrelu.report import ModelInfo, Report
from deadrelu.report.advice import PatchResult, Refusal, SiteChange


class Graph(Program, Protocol):
    """A program whose calls can be swapped and which can be saved."""

    def swap(self, swaps: tuple[Swap, ...]) -> Swapped:
        """Put other activations in the place of the named sites."""

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write it in its own format."""


def exported(program: EagerProgram, batch: Batch) -> ExportedProgram:
    """The model as torch.export sees it in eval mode, for any batch size where it takes any.

    Raises `ModelError` where torch cannot export it.
    """
    module = program.module
    training = {m: m.training for m in module.modules()}
    args = tuple(batch.args)
    kwargs = dict(batch.kwargs)
    try:
        module.eval()
        try:
            made = torch.export.export(module, args, kwargs, dynamic_shapes=_any_batch_size(module, batch))
        except Exception:  # a model that fixes its batch size is exported with that of the data
            made = torch.export.export(module, args, kwargs)
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"torch.export does not take this model: {said}", hint="make the edits in the source instead of --to pt2"
        ) from error
    finally:
        for m, flag in training.items():
            m.training = flag
    return ExportedProgram(made, program.device)


def patch_graph(
    program: Program,
    info: ModelInfo,
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    wanted: SwapOptions,
    scope: Plan,
    preview: bool,
    force: bool,
    progress: Progress | None,
) -> PatchResult:
    """Swap calls in the graph, write it, and have it compared with the original in a fresh process."""
    graph = _as_graph(program)
    if wanted.only_dead_units or wanted.reinit:
        flag = "--only-dead-units" if wanted.only_dead_units else "--reinit"
        raise UsageError(f"{flag} needs modules, and {info.path} is a graph", hint="patch the eager model it came from")
    batches = open_data(data, program)
    before = report_on(program, info, batches, scope, progress=progress)
    chosen = choose_sites(before.sites, wanted.sites)
    done = graph.swap(tuple(Swap(stats.site.id, wanted.to, wanted.slope) for stats in chosen))
    result = _decided(before, done, info, wanted)
    if preview or not result.changes:
        return result
    with replacing(output, force=force) as temporary:
        graph.save(temporary, force=True)
        after, evidence, needs = reopen(original, opening_of_patched(original, temporary, ours=True), data, {})
        proved = _proved(result, before, done, after, evidence)
        sha256 = sha256_of(temporary)
    return replace(proved, output=str(output), sha256=sha256, needs_trust=needs.trust, needs_arch=needs.arch)


def _as_graph(program: Program) -> Graph:
    """The program, if its calls can be swapped."""
    if not hasattr(program, "swap") or not hasattr(program, "save"):
        raise UsageError(f"a {program.kind} program cannot be patched", hint="patch the model that it came from")
    graph: Graph = program  # type: ignore[assignment]  # just looked
    return graph


def _any_batch_size(module: torch.nn.Module, batch: Batch) -> dict[str, Any]:
    """A dynamic dimension for the samples of each tensor that has one for them."""
    size = torch.export.Dim("batch", min=1, max=1 << 20)

    def of(value: object) -> Mapping[int, object] | None:
        shared = isinstance(value, Tensor) and value.ndim > batch.axis and value.shape[batch.axis] == batch.samples
        return {batch.axis: size} if shared else None

    names = list(batch.kwargs)
    positional = [name for name in EagerProgram(module).parameter_names if name not in names]
    return {name: of(value) for name, value in zip(positional, batch.args, strict=False)} | {
        name: of(value) for name, value in batch.kwargs.items()
    }


def _decided(before: Report, done: Swapped, info: ModelInfo, wanted: SwapOptions) -> PatchResult:
    """The result as far as it is known without a proof."""
    dead = {stats.site.id: stats for stats in before.sites}
    new = f"{wanted.to}({wanted.slope})" if wanted.to == "leaky_relu" else wanted.to
    changes = tuple(
        SiteChange(
            site=site,
            old=dead[site].site.op,
            new=new,
            units=dead[site].site.units,
            dead_before=dead[site].dead_units,
            dead_after=(),
            with_gradient=None,
        )
        for site in done.done
    )
    return PatchResult(
        model=info.path,
        output=None,
        format=info.format,
        samples=before.data.samples,
        changes=changes,
        refused=tuple(Refusal(site=site, reason=reason) for site, reason in done.refused.items()),
        edits=(),
        dead_before={stats.site.id: stats.dead for stats in before.sites},
        dead_after={},
        drift=None,
        parameters_changed=(),
    )


def _proved(
    result: PatchResult, before: Report, done: Swapped, after: Report | None, evidence: Evidence
) -> PatchResult:
    """The result with what was seen of the written file. Raises `ModelError` where that is not what was meant."""
    if evidence.parameters_changed:
        names = ", ".join(evidence.parameters_changed[:6])
        raise ModelError(f"the patched file has other weights: {names}", hint="please report it")
    seen = {stats.site.id: stats for stats in after.sites} if after else {}
    left = {site: done.renamed.get(site, site) for site in result.dead_before if site not in done.done}
    missing = [site for site, name in left.items() if name not in seen]
    if missing:
        raise ModelError(f"the patched file has lost the sites {', '.join(missing[:6])}", hint="please report it")
    stay = [site for site in done.done if site in seen and seen[site].site.op == "relu" and site not in left.values()]
    if stay:
        raise ModelError(f"{', '.join(stay[:6])} were not swapped in the patched file", hint="please report it")
    changes = tuple(_with_evidence(result, before, after, evidence))
    unknown = any(change.with_gradient is None for change in changes)
    dead_after = {site: seen[left[site]].dead if site in left else 0 for site in result.dead_before}
    return replace(
        result,
        changes=changes,
        dead_after=dead_after,
        drift=evidence.drift,
        notes=(
            ("whether gradient reaches the swapped sites was not measured: the file is a graph, made to be run",)
            if unknown
            else ()
        ),
    )


def _with_evidence(
    result: PatchResult, before: Report, after: Report | None, evidence: Evidence
) -> Iterator[SiteChange]:
    """The changes, with the dead units that gradient reached at the leaky calls which took their place."""
    swaps = {change.site for change in result.changes}
    sites = [LostSite.of(stats.site) for stats in before.sites if stats.site.id in swaps]
    leaky = match_leaky(sites, after.leaky if after else ())
    for change in result.changes:
        now = leaky.get(change.site)
        reached = evidence.reached.get(now.id) if now and not evidence.no_gradient else None
        known = reached is not None and len(reached) == change.units
        yield replace(
            change,
            with_gradient=tuple(u for u in change.dead_before if reached and reached[u]) if known else None,
        )
