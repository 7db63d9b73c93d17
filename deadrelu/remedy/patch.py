"""The whole remedy: scan, choose, swap, write, and let a fresh process prove it before the file gets its name."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import ModelError, NothingMeasuredError, UsageError
from deadrelu.files.writing import check_writable, replacing
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import sha256_of
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.remedy.folder import is_folder, patch_folder
from deadrelu.remedy.graphs import exported, patch_graph
from deadrelu.remedy.reopen import open_comparable, opening_of_patched, reopen
from deadrelu.remedy.swap import SwapOptions
from deadrelu.remedy.treatment import Treatment, decided, proved, treat
from deadrelu.remedy.verify import compare_programs
from deadrelu.report import ModelInfo
from deadrelu.report.advice import PatchResult


def patch_file(
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    wanted: SwapOptions,
    scope: Plan,
    *,
    to_pt2: bool = False,
    force: bool = False,
    preview: bool = False,
    progress: Progress | None = None,
) -> PatchResult:
    """Write a patched copy of a saved model to `output`, proved; with `preview`, only say what would be swapped.

    The copy has the format of the original, but for weights, of which a whole module is made, and for `to_pt2`, which
    exports the model first, so that functional calls can be swapped too. Nothing is written where there is nothing to
    swap, or where the proof fails. Raises `ModelError` for that, and what opening, reading and measuring raise.
    """
    if is_folder(str(original.model)) and not to_pt2:
        return patch_folder(original, output, data, wanted, scope, force=force, preview=preview, progress=progress)
    if not preview:
        check_writable(output, force=force)
    program, info = open_comparable(original)
    if to_pt2 and isinstance(program, EagerProgram):
        program = exported(program, next(iter(open_data(data, program))))
    if not isinstance(program, EagerProgram):
        return patch_graph(program, info, original, output, data, wanted, scope, preview, force, progress)
    treatment = treat(program, info, data, wanted, scope, progress)
    result = decided(treatment, info, wanted)
    if preview or not treatment.swaps:
        return result
    with replacing(output, force=force) as temporary:
        _save(treatment.module, temporary, legacy=info.format == "torch-legacy" and original.arch is None)
        code = original.arch or (str(original.model) if info.format == "architecture" else None)
        patched = opening_of_patched(original, temporary, code=code, ours=code is not None)
        after, evidence, needs = reopen(original, patched, data, treatment.axes, restarted=treatment.has_restarts)
        done = proved(result, treatment, after, evidence)
        sha256 = sha256_of(temporary)
    return replace(
        done,
        output=str(output),
        notes=(*_written_notes(info, treatment.module), *done.notes),
        sha256=sha256,
        needs_trust=needs.trust,
        needs_arch=needs.arch,
    )


def patch_module(
    module: nn.Module,
    data: DataSpec,
    wanted: SwapOptions,
    scope: Plan,
    device: torch.device | None = None,
    *,
    preview: bool = False,
) -> PatchResult:
    """Swap in a live module, in place, with the same proof taken in this process; as it was before, if that fails.

    The data is gone through several times, so that a one-shot iterator will not do. The root itself cannot be swapped.
    """
    original = copy.deepcopy(module)
    program = EagerProgram(module, device)
    info = ModelInfo(path=None, format="live module", sha256=None, parameters=0)
    treatment = treat(program, info, data, wanted, scope, None)
    result = decided(treatment, info, wanted)
    if treatment.module is not program.module:
        raise UsageError("the model is one activation and nothing else", hint="put the new activation in its place")
    if preview or not treatment.swaps:
        _give_back(module, treatment, original)
        return result
    batches = open_data(data, program)
    try:
        try:
            after = report_on(program, info, batches)
        except NothingMeasuredError:
            after = None
        before = EagerProgram(original, device)
        evidence = compare_programs(before, program, batches, treatment.axes, restarted=treatment.has_restarts)
        return proved(result, treatment, after, evidence)
    except BaseException:
        _give_back(module, treatment, original)
        raise


def _give_back(module: nn.Module, treatment: Treatment, original: nn.Module) -> None:
    """Undo the swaps and the restarts: the same parameter objects, with the values that they had."""
    treatment.undo()
    module.load_state_dict(original.state_dict())


def _save(module: nn.Module, path: Path, *, legacy: bool) -> None:
    """Save as torch does. Raises `ModelError` where the module cannot be pickled."""
    try:
        with path.open("wb") as file:  # given a path, torch would write our temporary name into the archive
            torch.save(module, file, _use_new_zipfile_serialization=not legacy)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "write" in str(error):
            raise OSError(str(error)) from error
        raise ModelError(f"the patched module cannot be saved: {error}", hint="change the source instead") from error
    except Exception as error:  # pickle.PicklingError has no closer base
        raise ModelError(f"the patched module cannot be saved: {error}", hint="change the source instead") from error


def _written_notes(info: ModelInfo, module: nn.Module) -> tuple[str, ...]:
    """What must be said plainly of the file that was written."""
    if info.format in ("torch-module", "torch-legacy"):
        return ()
    code = type(module)
    held = "is code" if info.format == "architecture" else "holds weights and no activations"
    return (
        f"a whole module was written, because {info.path} {held}",
        f"opening it needs the code of {code.__module__}.{code.__qualname__}",
    )
