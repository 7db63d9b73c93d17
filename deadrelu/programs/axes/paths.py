"""From which activation calls each tensor of a pass was computed, and of which its features still are the units."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.layout import WEIGHT, Atom, Axis, Layout
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.unit_order import MOVES

_UNITWISE = MOVES | {
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d"),
    *("avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "amax"),
    *("adaptive_max_pool2d", "constant_pad_nd", "upsample_nearest2d", "upsample_bilinear2d", "native_batch_norm"),
    *("cudnn_batch_norm", "native_batch_norm_legit_no_training", "expand"),
}
"""Operators that keep units apart: where one is constant, so is what is computed of it."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class ReachedCall:
    """One activation call of a pass; `axes` are those of its pre-activation, without merged ones."""

    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class InputPath:
    """The activation calls that all of a layer's input has passed, and of which one its features are the units.

    The features on axis `axis` of the call `units_of` are `size` units; feature f of the layer is unit
    f // `inner` % `size`.
    """

    passed: frozenset[ReachedCall] = frozenset()
    units_of: ReachedCall | None = None
    axis: int = 0
    inner: int = 1
    size: int = 1


@dataclass(frozen=True, slots=True)
class _Trace:
    """What is known of a tensor: the calls that it has passed, that whose units it holds, and that which comes next."""

    passed: frozenset[ReachedCall] = frozenset()
    units_of: ReachedCall | None = None
    awaited: ReachedCall | None = None


_NOTHING = _Trace()


class Paths:
    """The activation calls behind each tensor that is alive."""

    def __init__(self) -> None:
        """Nothing has run."""
        self._traces: MutableMapping[Tensor, _Trace] = WeakTensorKeyDictionary()

    def reach(self, z: Tensor, layout: Layout) -> ReachedCall:
        """An activation is called with `z`: the next operator that reads it."""
        call = ReachedCall(tuple(map(_apart, layout.axes)))
        self._traces[z] = replace(self._traces.get(z, _NOTHING), awaited=call)
        return call

    def of(self, x: Tensor, axis: Axis) -> InputPath:
        """The path of a layer's input, whose features are on this axis."""
        trace = self._traces.get(x, _NOTHING)
        atoms, made = _apart(axis), trace.units_of
        for place, units in enumerate(made.axes if made is not None else ()):
            start = next((at for at, atom in enumerate(atoms) if units and atom is units[0]), None)
            if start is not None and atoms[start : start + len(units)] == units:
                inner, size = (math.prod(a.size for a in run) for run in (atoms[start + len(units) :], units))
                return InputPath(trace.passed, made, place, inner, size)
        return InputPath(trace.passed)

    def follow(self, call: OperatorCall, inputs: Sequence[Tensor], *, is_in_place: bool) -> None:
        """Record what an operator has computed."""
        data = [x for x in inputs if call.layout_of(x) not in (None, WEIGHT)]
        traces = [self._traces.get(x, _NOTHING) for x in data]
        made = _NOTHING
        if any(trace is not _NOTHING for trace in traces):
            made = self._made(call, data, traces)
        if is_in_place:  # views have changed as well
            forget_aliases(self._traces, call.outputs)
        for out in call.outputs:
            if made is _NOTHING:
                self._traces.pop(out, None)
            else:
                self._traces[out] = made

    def _made(self, call: OperatorCall, data: Sequence[Tensor], traces: Sequence[_Trace]) -> _Trace:
        """What an operator makes of data with these traces."""
        passed = frozenset.intersection(*(trace.passed for trace in traces))
        units = traces[0].units_of if call.name in _UNITWISE else None
        for x, trace in zip(data, traces, strict=True):
            if trace.awaited is not None:
                self._traces[x] = replace(trace, awaited=None)
                if call.name in MOVES:
                    return _Trace(passed, units, trace.awaited)
                return _Trace(passed | {trace.awaited}, trace.awaited)
        return _Trace(passed, units) if passed or units else _NOTHING


def forget_aliases(known: MutableMapping[Tensor, _Value], changed: Sequence[Tensor]) -> None:
    """Drop what is known of the tensors that share memory with any of `changed`."""
    places = {_place(x) for x in changed} - {None}
    for x in [x for x in known if _place(x) in places]:
        del known[x]


def _place(x: Tensor) -> int | None:
    """A number for the memory of a tensor; None if it has none of its own."""
    try:
        return int(x.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def _apart(axis: Axis) -> Axis:
    """An axis with merged atoms replaced by those that they were made of."""
    out: list[Atom] = []
    for atom in axis:
        out += atom.parts or (atom,)
    return tuple(out)
