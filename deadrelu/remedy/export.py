"""Exports a live model with torch.export, so that its functional calls can be swapped too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deadrelu.errors import ModelError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch


def export_program(program: EagerProgram, batch: Batch) -> ExportedProgram:
    """Export the model in eval mode, for any batch size where it takes any.

    Raises `ModelError` where torch cannot export it.
    """
    module = program.module
    training = {m: m.training for m in module.modules()}
    args, kwargs = tuple(batch.args), dict(batch.kwargs)
    try:
        module.eval()
        try:
            made = torch.export.export(module, args, kwargs, dynamic_shapes=_any_batch_size(program, batch))
        except Exception:  # a model that fixes its batch size is exported with that of the data
            made = torch.export.export(module, args, kwargs)
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"torch.export does not take this model: {why}", hint="make the edits in the source instead of --to pt2"
        ) from error
    finally:
        for m, flag in training.items():
            m.training = flag
    return ExportedProgram(made, program.device)


def _any_batch_size(program: EagerProgram, batch: Batch) -> dict[str, Any]:
    """A dynamic dimension for the samples of each tensor that has one for them."""
    size = torch.export.Dim("batch", min=1, max=1 << 20)

    def of(value: object) -> Mapping[int, object] | None:
        shared = isinstance(value, Tensor) and value.ndim > batch.axis and value.shape[batch.axis] == batch.samples
        return {batch.axis: size} if shared else None

    names = list(batch.kwargs)
    positional = [name for name in program.parameter_names if name not in names]
    return {name: of(value) for name, value in zip(positional, batch.args, strict=False)} | {
        name: of(value) for name, value in batch.kwargs.items()
    }
