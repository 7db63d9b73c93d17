"""A live module as what is trained: `watch` and `recycle` take no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadrelu.errors import UsageError
from deadrelu.load.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from deadrelu.programs.eager.program import EagerProgram
    from deadrelu.report import ModelInfo


def open_live(model: nn.Module) -> tuple[EagerProgram, ModelInfo]:
    """The program of a live module, and what is known of it. Raises `UsageError` for a file or a graph."""
    from torch import nn

    from deadrelu.load.open import open_program
    from deadrelu.programs.eager.program import EagerProgram

    if isinstance(model, nn.Module):
        program, info = open_program(ModelSpec.of(model, {}))
        if isinstance(program, EagerProgram):
            return program, info
    raise UsageError("only a live nn.Module can be trained", hint="give the module that the optimizer trains")
