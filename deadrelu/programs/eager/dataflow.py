"""Finds which layer feeds an activation and which layers read it, unit by unit, by following one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.report import SiteStats

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_CONSUMERS = (F.linear, torch.conv1d, torch.conv2d, torch.conv3d)
_UNIT_BY_UNIT = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "max_pool1d", "max_pool2d",
    "max_pool3d", "_max_pool1d", "_max_pool2d", "_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "mean", "amax", "flatten", "reshape", "view", "contiguous", "clone", "interpolate", "squeeze",
}  # fmt: skip


@dataclass(frozen=True)
class Consumer:
    """A layer that reads the units: unit u is its input columns `u·width … (u+1)·width − 1`."""

    layer: Layer
    width: int


@dataclass
class Flow:
    """What feeds one activation module and what reads it; `obstacle` is the reason if that is unknown.

    `is_read_elsewhere`: its units may be read by more than the `consumers`.
    """

    producer: Layer | None = None
    norm: Norm | None = None
    consumers: list[Consumer] = field(default_factory=list)
    obstacle: str = ""
    is_read_elsewhere: bool = False

    def stop(self, why: str, *, reading: bool = False) -> None:
        """Note the first obstacle, and whether it is about what reads the units."""
        self.obstacle = self.obstacle or why
        self.is_read_elsewhere |= reading


@dataclass(frozen=True)
class _Tag:
    """A tensor with the units of the activation at `path` on dimension `axis` (1 or −1), `width` entries each."""

    path: str
    axis: int
    units: int
    width: int = 1

    def on(self, output: Tensor, *, same: bool) -> _Tag | None:
        """The tag of the output of a unit-by-unit call on a tensor with this tag; None if it lost the units."""
        if output.ndim < 2 or output.shape[self.axis] % self.units or (self.axis == -1 and not same):
            return None
        return _Tag(self.path, self.axis, self.units, output.shape[self.axis] // self.units)


def trace_flows(program: EagerProgram, batch: Batch, sites: Iterable[SiteStats]) -> dict[str, Flow]:
    """Run one batch to find what feeds each of these activation modules and what reads it, by path.

    A functional call is left out, and a site whose units are not the indices of one known axis.
    """
    axes: dict[str, int | None] = {}
    for stats in sites:
        if stats.site.swappable and not stats.site.is_guessed:
            axes.setdefault(stats.site.module, stats.site.feature_axis)
    known = {path: axis for path, axis in axes.items() if axis is not None}
    follower = _Follower(program.module, known)
    with program.plainly() as run, follower.hooks(), follower:
        output = run(batch)
    return follower.finished(output)


class _Follower(TorchFunctionMode):
    """Tags the outputs of activations and layers, and follows them through the forward pass."""

    def __init__(self, model: nn.Module, axes: Mapping[str, int]) -> None:
        super().__init__()
        self._flows = {path: Flow() for path in axes}
        self._axes = axes
        self._model = model
        self._owners: dict[int, list[nn.Module]] = {}
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                self._owners.setdefault(id(parameter), []).append(module)
        self._tags: MutableMapping[Tensor, _Tag] = WeakTensorKeyDictionary()
        self._made_by: MutableMapping[Tensor, tuple[nn.Module, ...]] = WeakTensorKeyDictionary()
        self._readers: dict[nn.Module, int] = {}
        self._calls: dict[nn.Module, int] = {}

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Hook the outputs of layers, and the inputs and outputs of activations."""
        with ExitStack() as stack:
            for module in self._model.modules():
                if isinstance(module, Layer | Norm):
                    stack.callback(module.register_forward_hook(self._on_layer).remove)
            for path in self._flows:
                module = self._model.get_submodule(path)

                def before(module: nn.Module, args: Any, path: str = path) -> None:
                    self._calls[module] = self._calls.get(module, 0) + 1
                    self._on_entry(self._flows[path], self._made_by.get(args[0], ()) if args else ())

                def after(_: nn.Module, __: Any, output: Tensor, path: str = path) -> None:
                    self._made_by.pop(output, None)  # an in-place activation returns the layer's own tensor
                    axis = 1 if self._axes[path] == 1 else -1
                    if output.ndim > 1:
                        self._tags[output] = _Tag(path, axis, output.shape[axis])

                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after).remove)
            yield

    def finished(self, output: Any) -> dict[str, Flow]:
        """The flows, with the obstacles that show only at the end of the pass."""
        for value in tensor_leaves(output):
            if (tag := self._tags.get(value)) is not None:
                self._flows[tag.path].stop("the model returns its output", reading=True)
        for path, flow in self._flows.items():
            layers = (flow.producer, flow.norm, self._model.get_submodule(path), *(c.layer for c in flow.consumers))
            if any(layer is not None and self._calls.get(layer, 0) > 1 for layer in layers):
                flow.stop("it, or a layer beside it, is called more than once", reading=True)
            if any(layer is not None and self._readers.get(layer, 0) > 1 for layer in (flow.producer, flow.norm)):
                flow.stop("something else reads its input too")
            if not flow.consumers:
                flow.stop("no layer reads its output", reading=True)
        return self._flows

    def _on_layer(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._calls[module] = self._calls.get(module, 0) + 1
        chain = self._made_by.get(args[0], ()) if isinstance(module, Norm) and args else ()
        self._made_by[output] = (*chain, module)

    def _on_entry(self, flow: Flow, makers: tuple[nn.Module, ...]) -> None:
        """Record what made the pre-activation: a layer, or a layer and a batch norm."""
        if makers and isinstance(makers[0], Layer):
            flow.producer = makers[0]
        if len(makers) == 2 and isinstance(makers[1], Norm):
            flow.norm = makers[1]
        if flow.producer is None or len(makers) > 2:
            flow.stop("its input does not come straight from a linear or convolution layer")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if next(tensor_leaves(output), None) is None:
            return output  # a size, a flag: nothing flows
        for value in tensor_leaves((args, kwargs)):
            if (makers := self._made_by.get(value)) is not None:
                self._readers[makers[-1]] = self._readers.get(makers[-1], 0) + 1
            if (tag := self._tags.get(value)) is not None:
                self._pass_on(tag, value, func, args, output)
        return output

    def _pass_on(self, tag: _Tag, value: Tensor, func: Any, args: Any, output: Any) -> None:
        """Follow the units through one call: to a layer that reads them, or to where they are lost."""
        flow, name = self._flows[tag.path], getattr(func, "__name__", str(func))
        if func in _CONSUMERS and len(args) > 1 and value is args[0]:
            self._consume(tag, flow, value, args[1])
            return
        carried = None
        if isinstance(output, Tensor) and (name in _UNIT_BY_UNIT or name == "batch_norm"):
            carried = tag.on(output, same=output.shape == value.shape)
        if carried is None:
            flow.stop(f"its output goes into {name}, which is not a linear or convolution layer", reading=True)
        else:
            self._tags[output] = carried

    def _consume(self, tag: _Tag, flow: Flow, value: Tensor, weight: Tensor) -> None:
        owners = [module for module in self._owners.get(id(weight), []) if isinstance(module, Layer)]
        on_axis = tag.axis == -1 or value.ndim == 2 or weight.ndim > 2
        if len(owners) != 1 or len(self._owners[id(weight)]) != 1:
            flow.stop("the weight that reads it belongs to several layers or to none", reading=True)
        elif not on_axis or weight.shape[1] != tag.units * tag.width:
            flow.stop("a grouped convolution reads it, or a layer that mixes its units with positions", reading=True)
        else:
            flow.consumers.append(Consumer(owners[0], tag.width))
