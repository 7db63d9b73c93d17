"""Prunes a model: scan, remove, write, and verify in a fresh process before the file gets its name."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import ModelError, UsageError
from deadrelu.files.writing import check_writable, replacing
from deadrelu.load.open import open_program
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import sha256_of
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.graph import refresh_shapes
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch
from deadrelu.remedy.compare import compare_programs
from deadrelu.remedy.prune.graphs import Prunable, plain_passes
from deadrelu.remedy.prune.in_memory import Done, PruneOptions, remove
from deadrelu.remedy.prune.surgery import restored
from deadrelu.remedy.reopen import patched_spec, reopen
from deadrelu.report import ModelInfo, Report
from deadrelu.report.pruned import ModelSize, OutputDrift, Pruned

_WEIGHTS = ("torch-state-dict", "torch-checkpoint", "safetensors")
_SAME_ROUNDING = 2
"""In another process the outputs may move this many times as far as in this one."""

_TURNS = 15
"""Passes of each model for its time, by turns."""


def prune_file(
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    options: PruneOptions,
    plan: Plan,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Pruned:
    """Write a verified copy of a saved model without its dead units to `output`.

    A whole module stays one, and a graph too. Weights become a state dict, with the layers whose sizes change in the
    code. Nothing is written if nothing can be removed. Raises `ModelError` if verification fails, and what opening and
    measuring raise.
    """
    check_writable(output, force=force)
    program, info = open_program(original)
    if info.format == "huggingface" or not isinstance(program, Prunable):
        raise UsageError(
            f"{info.path} has its sizes in config.json",
            hint="prune the model that it holds: deadrelu.prune(model, data)",
        )
    if isinstance(program, ExportedProgram) and not program.is_in_place:
        raise UsageError(f"{info.path} was exported on another device", hint="export it on the CPU")
    batches = open_data(data, program)
    done = remove(program, info, batches, options, plan, progress)
    result = _result(info, done, program, batches, options)
    if not result.changed:
        return result
    is_weights = info.format in _WEIGHTS
    with replacing(output, force=force) as temporary:
        if is_weights:
            torch.save(program.module.state_dict(), temporary)
        else:
            if isinstance(program, ExportedProgram):
                refresh_shapes(program.program)
            program.save(temporary, force=True)
        patched = patched_spec(original, temporary, code=original.arch or _code(original, info), ours=True)
        after, evidence, needs = reopen(original, patched, data, {}, resized=is_weights, feature_axes=plan.feature_axes)
        if after is None:
            raise ModelError("the pruned model has no site that can be measured", hint="please report it")
        result = replace(result, needs_trust=needs.trust, needs_arch=needs.arch)
        result = _verified(result, done, _dead_by_site(after), evidence.drift.largest)
        sha256 = sha256_of(temporary)
        size = temporary.stat().st_size
    return replace(
        result,
        output=str(output),
        before=replace(result.before, bytes=Path(str(original.model)).stat().st_size if info.sha256 else None),
        after=replace(result.after, bytes=size),
        notes=(*((_WRITTEN_WEIGHTS,) if is_weights else ()), *result.notes),
        sha256=sha256,
        layers_in_code=is_weights,
    )


_WRITTEN_WEIGHTS = "a state dict was written: it fits the code once the layers listed have their new sizes"


def prune_module(module: nn.Module, data: DataSpec, options: PruneOptions, plan: Plan) -> Pruned:
    """Remove dead units from a live module on the CPU, in place, with the same checks in this process.

    If one fails, or anything raises, the module is as it was.
    """
    if any(tensor.device.type != "cpu" for tensor in (*module.parameters(), *module.buffers())):
        raise UsageError("a model is pruned on the CPU, and this one lies elsewhere", hint="move it: model.cpu()")
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError("a TorchScript module in memory is not pruned", hint="save it, and prune the file")
    program = EagerProgram(module)
    info = ModelInfo(path=None, format="live module", sha256=None, parameters=0)
    batches = open_data(data, program)
    with restored(program.module):
        done = remove(program, info, batches, options, plan, None)
        result = _result(info, done, program, batches, options)
        if not result.changed:
            return result
        drift = compare_programs(done.original, program, batches, {}).drift
        return _verified(result, done, _dead_by_site(report_on(program, info, batches, plan)), drift.largest)


def _code(original: ModelSpec, info: ModelInfo) -> str | None:
    """The code that a model was built from, where it is code."""
    return str(original.model) if info.format == "architecture" else None


def _result(info: ModelInfo, done: Done, program: Prunable, batches: Iterable[Batch], options: PruneOptions) -> Pruned:
    """The result as far as it is known before the file is read back."""
    first = next(iter(batches))
    old, new = done.original, program
    is_timed = bool(done.layers) and not isinstance(program, ExportedProgram)
    times = _times([old, new], first) if is_timed else [None, None]  # an exported program is run node by node here
    dead = sum(_dead_by_site(done.before).values())
    kept = sum(len(site.kept) for site in done.sites)
    figures = [
        ModelSize(
            parameters=sum(p.numel() for p in each.module.parameters()),
            bytes=None,
            dead=left,
            multiply_adds=_multiply_adds(each, first),
            milliseconds=passed,
        )
        for each, left, passed in zip((old, new), (dead, kept), times, strict=True)
    ]
    return Pruned(
        model=info.path,
        output=None,
        format=info.format,
        samples=done.before.data.samples,
        proved=options.proved,
        sites=done.sites,
        before=figures[0],
        after=figures[1],
        drift=OutputDrift(max_abs=0.0),
        layers=done.layers,
        notes=done.notes,
    )


def _verified(result: Pruned, done: Done, dead: Mapping[str, int], largest: float) -> Pruned:
    """The result with what was measured of the pruned model. Raises `ModelError` where that is not what was planned."""
    if largest > _SAME_ROUNDING * done.moved:
        raise ModelError(
            f"the pruned model gives other outputs, by up to {largest:.2g}",
            hint="nothing was written; please report it",
        )
    left = {site.id: len(site.kept) for site in done.sites}
    wrong = [id for id, number in left.items() if dead.get(id) != number]
    if wrong:
        raise ModelError(f"other units than planned are dead at {', '.join(wrong[:6])}", hint="please report it")
    exact = f"in float64 the outputs move by {done.exactly:.1g} of their size: what moved them is rounding alone"
    return replace(
        result,
        after=replace(result.after, dead=sum(dead.values())),
        drift=OutputDrift(max_abs=largest),
        notes=(*result.notes, *((exact,) if largest else ())),
    )


def _dead_by_site(report: Report) -> dict[str, int]:
    return {stats.site.id: stats.dead for stats in report.sites}


def _times(programs: Sequence[Prunable], batch: Batch) -> list[float]:
    """The median time of a pass of each, by turns, in milliseconds."""
    taken: list[list[float]] = [[] for _ in programs]
    for _ in range(_TURNS):
        for times, program in zip(taken, programs, strict=True):
            with plain_passes(program) as run:
                run(batch)  # the first after a change of hands is slower
                start = time.perf_counter()
                run(batch)
                times.append((time.perf_counter() - start) * 1000)
    return [statistics.median(times) for times in taken]


def _multiply_adds(program: Prunable, batch: Batch) -> int | None:
    """The multiply-adds of one sample in linear and convolution layers."""
    counter = FlopCounterMode(display=False)
    with plain_passes(program) as run, counter:
        run(batch)
    return int(counter.get_total_flops()) // 2 // max(batch.samples, 1)
