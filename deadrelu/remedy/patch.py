"""Patches a model: scan, swap, write, and verify in a fresh process before the file gets its name."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import UsageError
from deadrelu.files.writing import check_writable, replacing
from deadrelu.load.open import open_program
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import sha256_of
from deadrelu.measure.plan import Plan
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.remedy.apply import apply_swaps, preview_result
from deadrelu.remedy.choose import SwapOptions
from deadrelu.remedy.compare import compare_programs, scan_patched
from deadrelu.remedy.export import export_program
from deadrelu.remedy.folder import is_folder, patch_folder
from deadrelu.remedy.reopen import patched_spec, reopen
from deadrelu.remedy.training_file import TrainingFile
from deadrelu.remedy.verify import verify
from deadrelu.report import ModelInfo
from deadrelu.report.advice import PatchResult


def patch_file(
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    options: SwapOptions,
    plan: Plan,
    *,
    to_pt2: bool = False,
    force: bool = False,
    preview: bool = False,
    progress: Progress | None = None,
) -> PatchResult:
    """Write a verified, patched copy of a saved model to `output`; with `preview`, only say what would be swapped.

    The copy has the format of the original, with two exceptions: for weights a whole module is written, unless units
    are restarted and nothing is swapped, and `to_pt2` exports the model first, so that functional calls can be swapped
    too. Nothing is written if there is nothing to swap or verification fails. Raises `ModelError` for that, and what
    opening, reading and measuring raise.
    """
    if is_folder(str(original.model)) and not to_pt2:
        return patch_folder(original, output, data, options, plan, force=force, preview=preview, progress=progress)
    if not preview:
        check_writable(output, force=force)
    program, info = open_program(original)
    if to_pt2 and isinstance(program, EagerProgram):
        program = export_program(program, next(iter(open_data(data, program))))
    is_live = isinstance(program, EagerProgram)
    if not is_live and (options.only_dead_units or options.reinit):
        flag = "--only-dead-units" if options.only_dead_units else "--reinit"
        raise UsageError(f"{flag} needs modules, and {info.path} is a graph", hint="patch the eager model it came from")
    applied = apply_swaps(program, info, data, options, plan, progress)
    result = preview_result(applied, info, options)
    if preview or not result.changes:
        return result
    code = (original.arch or (str(original.model) if info.format == "architecture" else None)) if is_live else None
    whole = TrainingFile.read(original, info, options)
    written = _written_notes(info, program.module) if whole is None and is_live else ()
    with replacing(output, force=force) as temporary:
        if whole is not None:
            written = whole.restart(applied)
            whole.write(temporary)
            patched = replace(original, model=str(temporary))
        else:
            program.save(temporary, force=True)
            patched = patched_spec(original, temporary, code=code, ours=not is_live or code is not None)
        after, evidence, needs = reopen(original, patched, data, applied.axes, restarted=applied.has_restarts)
        result = verify(result, applied, after, evidence)
        sha256 = sha256_of(temporary)
    return replace(
        result,
        output=str(output),
        notes=(*written, *result.notes),
        sha256=sha256,
        needs_trust=needs.trust,
        needs_arch=needs.arch,
        opens_as_before=whole is not None,
    )


def patch_module(
    module: nn.Module,
    data: DataSpec,
    options: SwapOptions,
    plan: Plan,
    device: torch.device | None = None,
    *,
    preview: bool = False,
) -> PatchResult:
    """Swap in a live module, in place, with the same checks in this process; if one fails, the module is restored.

    The data is read several times, so a one-shot iterator will not do. The root itself cannot be swapped.
    """
    untouched = copy.deepcopy(module)
    program = EagerProgram(module, device)
    root = program.module
    info = ModelInfo(path=None, format="live module", sha256=None, parameters=0)
    applied = apply_swaps(program, info, data, options, plan, None)
    is_kept = False
    try:
        result = preview_result(applied, info, options)
        if program.module is not root:
            raise UsageError("the model is one activation and nothing else", hint="put the new activation in its place")
        if preview or not result.changes:
            return result
        batches = open_data(data, program)
        after = scan_patched(program, info, batches)
        before = EagerProgram(untouched, device)
        evidence = compare_programs(before, program, batches, applied.axes, restarted=applied.has_restarts)
        result = verify(result, applied, after, evidence)
        is_kept = True
        return result
    finally:
        if not is_kept:  # the same parameter objects, with their old values
            program.undo_swaps()
            module.load_state_dict(untouched.state_dict())


def _written_notes(info: ModelInfo, module: nn.Module) -> tuple[str, ...]:
    """What the user must know about a file in another format than the original's."""
    if info.format in ("torch-module", "torch-legacy"):
        return ()
    code = type(module)
    held = "is code" if info.format == "architecture" else "holds weights and no activations"
    lost = ("the optimizer's state is not in it: --reinit --with keep writes that too",) if info.optimizers else ()
    return (
        f"a whole module was written, because {info.path} {held}",
        *lost,
        f"opening it needs the code of {code.__module__}.{code.__qualname__}",
    )
