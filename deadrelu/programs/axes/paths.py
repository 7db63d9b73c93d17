"""From which activation calls each tensor of a pass was computed, and of which its features still are the units."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
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


class Paths:
    """The activation calls behind each tensor that is alive."""

    def __init__(self) -> None:
        """Nothing has run."""
        self._passed: MutableMapping[Tensor, frozenset[ReachedCall]] = WeakTensorKeyDictionary()
        self._units: MutableMapping[Tensor, ReachedCall] = WeakTensorKeyDictionary()
        self._next: MutableMapping[Tensor, ReachedCall] = WeakTensorKeyDictionary()

    def reach(self, z: Tensor, layout: Layout) -> ReachedCall:
        """An activation is called with `z`: the next operator that reads it."""
        made = self._next[z] = ReachedCall(tuple(map(_apart, layout.axes)))
        return made

    def of(self, x: Tensor, axis: Axis) -> InputPath:
        """The path of a layer's input, whose features are on this axis."""
        passed, made = self._passed.get(x, frozenset()), self._units.get(x)
        atoms = _apart(axis)
        for place, units in enumerate(made.axes if made is not None else ()):
            start = next((at for at, atom in enumerate(atoms) if units and atom is units[0]), None)
            if start is not None and atoms[start : start + len(units)] == units:
                inner, size = (math.prod(a.size for a in run) for run in (atoms[start + len(units) :], units))
                return InputPath(passed, made, place, inner, size)
        return InputPath(passed)

    def follow(self, call: OperatorCall, inputs: Sequence[Tensor]) -> None:
        """Record what an operator has computed."""
        data = [x for x in inputs if call.layout_of(x) not in (None, WEIGHT)]
        sets = [self._passed.get(x, frozenset()) for x in data]
        passed = frozenset.intersection(*sets) if sets else frozenset()
        units = self._units.get(data[0]) if data and call.name in _UNITWISE else None
        waiting = next((made for x in data if (made := self._next.pop(x, None)) is not None), None)
        if waiting is not None and call.name not in MOVES:
            passed, units, waiting = passed | {waiting}, waiting, None
        if any(out is x for out in call.outputs for x in inputs):  # in place: views of it have changed as well
            forget_aliases(self._passed, call.outputs)
            forget_aliases(self._units, call.outputs)
            forget_aliases(self._next, call.outputs)
        for out in call.outputs:
            _note(self._passed, out, passed or None)
            _note(self._units, out, units)
            if waiting is not None:
                self._next[out] = waiting


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


def _note(known: MutableMapping[Tensor, _Value], x: Tensor, value: _Value | None) -> None:
    if value is None:
        known.pop(x, None)
    else:
        known[x] = value


def _apart(axis: Axis) -> Axis:
    """An axis with merged atoms replaced by those that they were made of."""
    out: list[Atom] = []
    for atom in axis:
        out += atom.parts or (atom,)
    return tuple(out)
