"""Open what the user calls MODEL: a file, a Hugging Face folder or a piece of code, as a live module on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from deadrelu.errors import UsageError
from deadrelu.load.architecture.build import build, is_spec
from deadrelu.load.checkpoint import open_checkpoint, weights_into
from deadrelu.load.export import open_export
from deadrelu.load.flat import read_safetensors
from deadrelu.load.held import held
from deadrelu.load.huggingface import open_folder
from deadrelu.load.script import open_script
from deadrelu.load.sniff import FileKind, refusal, sniff
from deadrelu.load.spec import ModelSpec
from deadrelu.load.spread import place
from deadrelu.load.trust import Origin
from deadrelu.load.weights import nonfinite
from deadrelu.programs.device import choose_device
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Program
from deadrelu.programs.rng import seeded
from deadrelu.programs.script.program import TorchScriptProgram
from deadrelu.report import ModelInfo
from deadrelu.report.optimizer import OptimizerInfo
from deadrelu.text.wording import count

_log = logging.getLogger("deadrelu")


@dataclass(frozen=True)
class Opened:
    """A module on the CPU, its training flags as they were saved, and what the report says of it."""

    module: nn.Module
    info: ModelInfo
    start: Callable[[torch.device | None], Program] = field(repr=False)

    def program(self, device: torch.device | None = None) -> Program:
        """What can be run and watched, on `device` (None: where the module lies)."""
        return self.start(device)


def open_program(spec: ModelSpec) -> tuple[Program, ModelInfo]:
    """The model as a program on its device, and what the report says of it. Raises as `open_model` does."""
    opened = open_model(spec)
    if spec.device_map is not None:
        place(opened.module, opened.info, spec)
        return opened.program(), opened.info
    return opened.program(choose_device(spec.device if spec.is_live else spec.device or "auto")), opened.info


def open_model(spec: ModelSpec) -> Opened:
    """Open the model of the spec; nothing in a file runs that its `trust` does not allow.

    Raises `FileError`, `TrustError`, `ArchitectureError` or `UsageError`, each with what to do next.
    """
    if isinstance(spec.model, nn.Module):
        return _described(spec.model, None, "live module", None)
    text, path = str(spec.model), Path(spec.model)
    if (is_spec(text) and not path.exists()) or (path.suffix == ".py" and path.is_file()):
        if spec.arch is not None or spec.weights_key is not None:
            raise UsageError(f"{text} is code already", hint="give the weights as MODEL and the code with --arch")
        with seeded(torch.device("cpu"), spec.initial_seed):  # a second scan measures the same initial weights
            return _described(build(text, spec.arch_args), text, "architecture", None)
    kind = sniff(path)
    if kind is FileKind.HUGGINGFACE:
        if spec.arch is not None or spec.weights_key is not None:
            raise UsageError(f"{text} is a Hugging Face folder with its own config.json", hint="leave out --arch")
        return _described(open_folder(path, spec.arch_args), text, "huggingface", None)
    if not kind.readable:
        raise refusal(kind, path)
    if kind is FileKind.SHARDED:
        from deadrelu.load.sharded import open_sharded  # torch.distributed takes its time to import

        module, sha256 = open_sharded(path, spec)
        return _described(module, text, "torch-sharded", sha256)
    with held(path) as origin:
        return _open_file(origin, kind, spec)


def _open_file(origin: Origin, kind: FileKind, spec: ModelSpec) -> Opened:
    """A single file of a kind that can be opened."""
    text = str(origin.path)
    if kind in (FileKind.TORCHSCRIPT, FileKind.PT2):
        return _open_graph(origin, kind, spec)
    if kind is FileKind.SAFETENSORS:
        module = weights_into(origin, {"": read_safetensors(origin.held, named=origin.path)}, spec)
        return _described(module, text, "safetensors", origin.sha256)
    found = open_checkpoint(origin, kind, spec)
    if kind is FileKind.TORCH_ZIP:
        return _described(found.module, text, found.form, origin.sha256, optimizers=found.optimizers)
    start = partial(EagerProgram, found.module, legacy=spec.arch is None)
    return _described(found.module, text, "torch-legacy", origin.sha256, start, optimizers=found.optimizers)


def _open_graph(origin: Origin, kind: FileKind, spec: ModelSpec) -> Opened:
    """A file that holds a whole program, code and all."""
    path = str(origin.path)
    if spec.arch is not None or spec.weights_key is not None:
        raise UsageError(f"{path} is a program with its own code", hint="leave out --arch and --weights-key")
    if kind is FileKind.PT2:
        program = open_export(origin, spec.trust)
        module = ExportedProgram(program).module
        return _described(module, path, kind.value, origin.sha256, partial(ExportedProgram, program))
    script = open_script(origin, spec.trust)
    return _described(script.module, path, kind.value, origin.sha256, script.program)


def _described(
    module: nn.Module,
    path: str | None,
    form: str,
    sha256: str | None,
    start: Callable[[torch.device | None], Program] | None = None,
    optimizers: tuple[OptimizerInfo, ...] = (),
) -> Opened:
    """A module with its description; `path` is None for a live one. Non-finite weights are logged at once.

    `start` makes the program; None takes the one that fits the module.
    """
    if start is None:
        if isinstance(module, torch.jit.ScriptModule):
            start = partial(TorchScriptProgram, module)
        else:
            start = partial(EagerProgram, module)
    bad = nonfinite(module)
    if bad:
        _log.warning(
            "%s has NaN or infinite values in %s, the first is %s",
            path or "the model",
            count(len(bad), "tensor"),
            next(iter(bad)),
        )
    parameters = sum(p.numel() for p in module.parameters() if not nn.parameter.is_lazy(p))
    info = ModelInfo(
        path=path,
        format=form,
        sha256=sha256,
        parameters=parameters,
        nonfinite_weights=bad,
        optimizers=optimizers,
    )
    return Opened(module, info, start)
