"""Measures what a swap changed, on the same batches: drift, gradient, dead units, parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.data.batches import Batches
from deadrelu.errors import NothingMeasuredError
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.programs.rng import seed_all
from deadrelu.remedy.gradient import NonzeroUnits, backward, on_entry, optimizer_step, own_gradient
from deadrelu.report import ModelInfo, Report
from deadrelu.report.advice import Drift


@dataclass(frozen=True)
class Evidence:
    """What the comparison of two programs showed.

    `alive` and `reached` have an entry for each unit, by call of a swapped module (`path#1` is its first) or by id of a
    leaky call of a graph: whether the activation's own gradient was non-zero anywhere, and whether the gradient of a
    random projection of the output was, after `steps` optimiser steps. `no_gradient` is the reason if there was no
    backward pass.
    """

    drift: Drift
    alive: Mapping[str, tuple[bool, ...]]
    reached: Mapping[str, tuple[bool, ...]]
    parameters_changed: tuple[str, ...]
    parameters_added: tuple[str, ...]
    modules_changed: tuple[str, ...]
    no_gradient: str = ""
    steps: int = 0


def scan_patched(
    program: Program, info: ModelInfo, batches: Batches, feature_axes: Mapping[str, int | None] | None = None
) -> Report | None:
    """The judged report on a patched model; None if every site was swapped for one without a flat region."""
    plan = Plan(feature_axes=feature_axes or {}, unmatched="note")
    try:
        return judge(report_on(program, info, batches, plan), Policy())
    except NothingMeasuredError:
        return None


def compare_programs(
    before: Program,
    after: Program,
    batches: Iterable[Batch],
    swapped: Mapping[str, int | None],
    *,
    restarted: bool = False,
) -> Evidence:
    """Run both programs over `batches`; `swapped` maps each call of a swapped module (`path#1`) to its feature axis.

    Where units were `restarted`, the weights out of them are zero and block the gradient: then it is taken from a copy
    of `after` that has made one optimiser step. Backward passes go on until a gradient has reached every unit.
    """
    drift, alive = _DriftTally(), NonzeroUnits.of_calls(swapped)
    reached = NonzeroUnits.of_sites() if isinstance(after, ExportedProgram) else NonzeroUnits.of_calls(swapped)
    reason, is_taken = "there was no batch", False
    # Copied before it is watched, or the copy would hold our hooks.
    learner = EagerProgram(copy.deepcopy(after.module), after.device) if restarted else after
    modules, tapped = _modules(after, swapped), _tapped(learner, swapped)
    with ExitStack() as stack:
        run_before = stack.enter_context(before.watched(lambda *_: None))
        run_after = stack.enter_context(after.watched(lambda *_: None))
        run_learner = stack.enter_context(learner.plainly()) if restarted else run_after
        for index, batch in enumerate(batches):
            seed_all(index)  # a model that draws random numbers in eval mode must draw the same ones twice
            old = run_before(copy.deepcopy(batch))
            seed_all(index)
            with on_entry(modules, lambda call, module, z: alive.update(call, own_gradient(module, z))):
                new = run_after(copy.deepcopy(batch))
            drift.update(old, new)
            if tapped is None or reached.is_complete or (index and not is_taken):
                continue
            if restarted and index == 0:
                optimizer_step(learner.module, lambda: run_learner(copy.deepcopy(batch)))  # noqa: B023
            why = backward(lambda: run_learner(copy.deepcopy(batch)), tapped, reached.update)  # noqa: B023
            reason, is_taken = "" if is_taken else why, is_taken or not why
    changed, added = _changed(before.module, after.module)
    return Evidence(
        drift=drift.compute(),
        alive=alive.compute(),
        reached=reached.compute(),
        parameters_changed=changed,
        parameters_added=added,
        modules_changed=_modules_changed(before.module, after.module),
        no_gradient=reason,
        steps=int(restarted),
    )


def _tapped(
    program: Program, calls: Iterable[str]
) -> Callable[[Callable[[Any, Tensor], Tensor]], AbstractContextManager[None]] | None:
    """What calls a function at each swapped call of a forward pass; None if nothing can."""
    if isinstance(program, ExportedProgram):
        return program.tapped
    modules = _modules(program, calls)
    return (lambda enter: on_entry(modules, lambda call, _, z: enter(call, z))) if modules else None


def _modules(program: Program, calls: Iterable[str]) -> dict[str, nn.Module]:
    """The modules whose calls these are, by path."""
    return {path: program.module.get_submodule(path) for path in {call.rpartition("#")[0] for call in calls}}


@dataclass
class _DriftTally:
    """Sums over the outputs of two programs, from which the drift is computed."""

    moved: float = 0.0
    size: float = 0.0
    largest: float = 0.0
    rows: int = 0
    same: int = 0
    classes: bool = True

    def update(self, old: Any, new: Any) -> None:
        """Add the outputs of one batch."""
        before, after = list(_floats(old)), list(_floats(new))
        for a, b in zip(before, after, strict=True):
            a, b = a.detach().double(), b.detach().double()
            if a.numel():
                self.moved += float((b - a).square().sum())
                self.size += float(a.square().sum())
                self.largest = max(self.largest, float((b - a).abs().max()))
        if self.classes and len(before) == 1 and before[0].ndim == 2 and before[0].shape[1] > 1:
            self.rows += len(before[0])
            self.same += int((before[0].argmax(1) == after[0].argmax(1)).sum())
        else:
            self.classes = False

    def compute(self) -> Drift:
        """The drift over all batches."""
        relative = math.sqrt(self.moved / self.size) if self.size else (None if self.moved else 0.0)
        shown = self.classes and self.rows > 0
        return Drift(relative_l2=relative, largest=self.largest, same_argmax=self.same / self.rows if shown else None)


def _changed(before: nn.Module, after: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The shared parameters and buffers that differ, and the new ones."""
    old, new = before.state_dict(), after.state_dict()
    changed = (name for name, value in old.items() if name in new and not same_bits(value, new[name]))
    return tuple(changed), tuple(name for name in new if name not in old)


def _modules_changed(before: nn.Module, after: nn.Module) -> tuple[str, ...]:
    """The paths at which the two have different classes of modules, or only one has a module."""
    old = {path: type(m).__qualname__ for path, m in before.named_modules(remove_duplicate=False)}
    new = {path: type(m).__qualname__ for path, m in after.named_modules(remove_duplicate=False)}
    return tuple(path for path in {**old, **new} if old.get(path) != new.get(path))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two values are equal bit for bit, so that NaN equals itself."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.is_quantized or torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _floats(output: Any) -> Iterator[Tensor]:
    """The floating tensors of an output."""
    return (tensor for tensor in tensor_leaves(output) if tensor.is_floating_point())
