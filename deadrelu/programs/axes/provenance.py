"""Tracks, through one forward pass, which axes of each tensor hold features, and which layer made them.

Every operator passes on what the axes of its inputs stand for. Where nothing made features on the way, a later consumer
of the tensor may reveal them; where that leaves a choice, the axis is a guess and reported as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.layout import WEIGHT, Layout, Role, unknown_layout
from deadrelu.programs.axes.operator_call import OperatorCall, bind_arguments
from deadrelu.programs.axes.operators import BY_ROWS, constant, rule_of
from deadrelu.programs.axes.origins import Origins
from deadrelu.programs.axes.preallocated import Slices
from deadrelu.programs.axes.unit_axes import UnitAxes
from deadrelu.programs.modes import Operators
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.programs.ragged import jagged_values


class Provenance:
    """The layouts of the tensors that are alive."""

    def __init__(self, inputs: Any = (), samples: int = 0, samples_axis: int = 0) -> None:
        """Track a pass over `inputs`, a pytree, whose `samples_axis` holds the samples where it has that size."""
        self._layouts: MutableMapping[Tensor, Layout] = WeakTensorKeyDictionary()
        self._slices = Slices()
        self._origins = Origins()
        for x in tensor_leaves(inputs):
            rows = jagged_values(x)
            if rows is not x:
                self._layouts[rows] = unknown_layout(rows.shape)
            elif _is_dense(x):
                fits = x.ndim > samples_axis and x.shape[samples_axis] == samples
                self._layouts[x] = unknown_layout(x.shape, samples_axis if fits else None)

    def follow(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        layer: Callable[[], str | None],
    ) -> None:
        """Record the layouts of an operator's outputs. `layer` returns the path of the running layer."""
        given = list(tensor_leaves(output))
        outputs = tuple(x for x in map(jagged_values, given) if _is_dense(x))
        if not outputs:
            return
        arguments = bind_arguments(function, args, kwargs)
        rule, makes = rule_of(function)
        if any(x.layout is torch.jagged for x in (*given, *tensor_leaves(arguments))):
            arguments = {name: _by_rows(value) for name, value in arguments.items()}
            rule = rule if rule in BY_ROWS else None
        inputs = list(tensor_leaves(arguments))
        name = function.overloadpacket.__name__
        call = OperatorCall(name.strip("_"), arguments, outputs, self._layouts.get, cache(layer))
        has_data = self._has_data(inputs)
        self._origins.follow(call, inputs, has_data=has_data)
        if not makes and not has_data:
            if any(map(call.is_weight, inputs)):
                self._layouts.update((out, WEIGHT) for out in outputs)
            elif inputs:
                self._slices.add(call)
            return
        if rule is None:
            for out in outputs:
                self._layouts[out] = self._lost(inputs, out)
            return
        made = rule(call)
        each = [made] * len(outputs) if made is None or isinstance(made, Layout) else made
        ends = rule is not constant and not name.endswith("_") and has_data
        for out, layout in zip(outputs, each, strict=True):
            if layout is None and ends and out.is_floating_point():
                layout = self._lost(inputs, out)  # computed from data, so not a constant
            self._learn(out, layout)
            if layout is not None and name.endswith("_"):
                self._slices.write(out, layout, self._learn)

    def _has_data(self, inputs: Sequence[Tensor]) -> bool:
        return any(self._layouts.get(x) not in (None, WEIGHT) for x in inputs)

    def _learn(self, x: Tensor, layout: Layout | None) -> None:
        if layout is None:
            self._layouts.pop(x, None)
        elif x.ndim:
            self._layouts[x] = layout if len(layout.axes) == x.ndim else unknown_layout(x.shape, is_lost=True)

    def read(self, z: Tensor) -> UnitAxes:
        """The axes of the units of a pre-activation. An unknown tensor is tracked from here on."""
        layout = self._layouts.get(z)
        if layout is None or layout is WEIGHT or len(layout.axes) != z.ndim:
            layout = self._layouts[z] = unknown_layout(z.shape, is_lost=True)
        origins = self._origins
        return UnitAxes(layout, tuple(z.shape), origins.of(z), origins.entries, origins.reach(z, layout))

    def _lost(self, inputs: Sequence[Tensor], out: Tensor) -> Layout:
        """The layout after an unknown operator: open, but for a first axis that still has the size of the samples."""
        known = (self._layouts.get(x) for x in inputs)
        first = next((layout.axes[0] for layout in known if layout is not None and layout.axes), ())
        fits = bool(out.ndim) and len(first) == 1 and first[0].role is Role.SAMPLE and first[0].size == out.shape[0]
        return unknown_layout(out.shape, 0 if fits else None, is_lost=True)


def _is_dense(x: Tensor) -> bool:
    return x.layout is torch.strided and not x.is_nested


def _by_rows(value: Any) -> Any:
    """An argument with each jagged tensor replaced by its rows."""
    if isinstance(value, Tensor):
        return jagged_values(value)
    return [_by_rows(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def following(provenance: Provenance, layer: Callable[[], str | None]) -> Operators:
    """A dispatch mode that tracks every operator; `layer` returns the path of the running layer."""

    def handle(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = function(*args, **kwargs)
        provenance.follow(function, args, kwargs, output, layer)
        return output

    return Operators(handle)
