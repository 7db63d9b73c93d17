"""What pruning needs of each kind of program: a copy, one in float64, and plain passes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager

from torch import Tensor

from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Run
from deadrelu.programs.script.program import TorchScriptProgram
from deadrelu.remedy.prune.parameters import tensor_named

Prunable = EagerProgram | TorchScriptProgram | ExportedProgram


def copied(program: Prunable) -> Prunable:
    """The same program with tensors of its own."""
    if isinstance(program, ExportedProgram):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of its own tree specs
            return ExportedProgram(copy.deepcopy(program.program), program.device)
    if isinstance(program, EagerProgram):
        return EagerProgram(copy.deepcopy(program.module), program.device)
    module = copy.deepcopy(program.module)
    for parameter in module.parameters():
        parameter.detach_()  # of a script the copies are not leaves
    return TorchScriptProgram(module, program.device)


def in_float64(program: Prunable, exact: Mapping[str, Tensor]) -> Prunable:
    """A copy of the program in float64, with these parameters as they are before they are rounded to float32."""
    made = copied(program)
    tensors = [*made.module.parameters(), *made.module.buffers()]
    if isinstance(made, ExportedProgram):
        tensors = [*made.program.state_dict.values(), *made.program.constants.values()]
        for node in made.program.graph.nodes:
            value = node.meta.get("val")
            if node.op == "placeholder" and isinstance(value, Tensor) and value.is_floating_point():
                node.meta["val"] = value.double()
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            tensor.data = tensor.data.double()
    for name, value in exact.items():
        tensor_named(made.module, name).data = value
    return copied(made) if isinstance(made, ExportedProgram) else made


def plain_passes(program: Prunable) -> AbstractContextManager[Run]:
    """A function that runs one batch; torch takes the kernels that it takes by itself."""
    if isinstance(program, ExportedProgram):
        return program.watched(lambda *_: None)
    return program.plainly()
