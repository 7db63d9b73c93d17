"""Which axis of the input counts the samples: seen from a layer that takes time first, and what reaches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import map_tensors, tensor_leaves


class _Reached(BaseException):
    """Ends a trial run at the first layer of the kind; no `except Exception` of the user's may stop it."""


@dataclass(frozen=True)
class Sight:
    """What such a layer got: (time, samples), `samples` None for one sequence without a batch axis."""

    layer: str
    time: int
    samples: int | None
    is_input: bool


def batch_axis(program: Program, batch: Batch) -> tuple[int | None, str]:
    """The axis that counts samples, None where the whole input is one sequence; and the layer that says so.

    A recurrent or attention layer without `batch_first` has its samples on axis 1. Where the input reaches it as
    `(T, N, …)`, with its own first two axes, they are on axis 1 of the input too. The model runs as far as that layer.
    """
    first = next(tensor_leaves((batch.args, dict(batch.kwargs))), None)
    if first is None or first.is_nested or first.layout is not torch.strided or not _may_be_odd(program, first.dim()):
        return 0, ""
    if program.kind == "torchscript":
        return _of_script(program, first.dim())
    sight = _sighted(program, batch, first)
    if sight is None:
        return 0, ""
    if sight.samples is None:
        return (None if sight.is_input else 0), sight.layer
    sizes = (sight.time, sight.samples)
    if tuple(first.shape[:2]) != sizes:
        return 0, ""
    if sight.time == sight.samples and not sight.is_input:
        # T = N: one sample less shows which axis is which.
        sight = _sighted(program, _narrowed(batch, sizes), first) if sight.samples > 1 else None
        if sight is None or (sight.time, sight.samples) != (sizes[0], sizes[1] - 1):
            return 0, ""
    return 1, sight.layer


def _of_script(program: Program, rank: int) -> tuple[int, str]:
    """The same of a script, whose layers take no hooks: by the layer that runs first."""
    path, layer = next(((path, layer) for path, layer in program.modules() if path), ("", None))
    if rank == 3 and isinstance(layer, nn.RNNBase) and not layer.batch_first:
        return 1, f"{path}: {type(layer).__name__}"
    return 0, ""


def _sighted(program: Program, batch: Batch, first: Tensor) -> Sight | None:
    """What the first layer of the kind gets in a trial run; None where none is reached."""
    seen: list[Sight] = []
    with ExitStack() as stack:
        for path, module in program.modules():
            if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
                hook = _hook(f"{path or '(root)'}: {type(module).__name__}", first, seen)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        try:
            with program.plainly() as run:
                run(batch)
        except _Reached:
            pass
        except (Exception, SystemExit):  # the real run says why
            return None
    return seen[0] if seen else None


def may_take_time_first(program: Program) -> bool:
    """Whether a layer of the model has its samples on axis 1."""
    return _may_be_odd(program, 3)


def _may_be_odd(program: Program, rank: int) -> bool:
    """Whether a layer may take input of this rank with time first, or without a batch axis: else no run is needed."""
    if rank < 2:
        return False
    layers = [module for _, module in program.modules() if isinstance(module, (nn.RNNBase, nn.MultiheadAttention))]
    return any(not layer.batch_first or (rank == 2 and isinstance(layer, nn.RNNBase)) for layer in layers)


def _hook(layer: str, first: Tensor, seen: list[Sight]) -> Callable[[nn.Module, Any, Mapping[str, Any]], None]:
    def hook(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        x = args[0] if args else kwargs.get("input", kwargs.get("query"))
        if isinstance(x, PackedSequence):
            if not module.batch_first:
                seen.append(Sight(layer, len(x.batch_sizes), int(x.batch_sizes[0]), is_input=False))
        elif isinstance(x, Tensor) and not x.is_nested:
            is_input = (x.data_ptr(), x.shape, x.stride()) == (first.data_ptr(), first.shape, first.stride())
            if x.dim() == 2 and isinstance(module, nn.RNNBase):
                seen.append(Sight(layer, len(x), None, is_input=is_input))
            elif x.dim() == 3 and not module.batch_first:
                seen.append(Sight(layer, x.shape[0], x.shape[1], is_input=is_input))
        raise _Reached

    return hook


def _narrowed(batch: Batch, sizes: tuple[int, int]) -> Batch:
    """The batch with one sample less on axis 1."""

    def narrow(x: Tensor) -> Tensor:
        return x.narrow(1, 0, sizes[1] - 1) if x.dim() > 1 and tuple(x.shape[:2]) == sizes else x

    return replace(batch, args=map_tensors(tuple(batch.args), narrow), kwargs=map_tensors(dict(batch.kwargs), narrow))
