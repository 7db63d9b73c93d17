"""Which axes of a pre-activation tell its units apart, and which layer made them: followed through one forward pass.

Every operator hands on what the axes of its inputs stand for (`axes/`). Where nothing made features on the way, what
consumes the tensor later in the pass may tell; where that leaves a choice, the axis is a guess and is called one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from deadrelu.programs.axes.call import Call, bound, tensors_in
from deadrelu.programs.axes.layout import WEIGHT, Atom, Axis, Layout, Role, has, opened
from deadrelu.programs.axes.operators import rule_of
from deadrelu.programs.axes.writes import Slices
from deadrelu.programs.modes import Operators
from deadrelu.programs.nest import tensors_in as inputs_in
from deadrelu.programs.program import Features

RANKED = "its axis holds ranks or picks (topk, sort, gather), not always the same features"
"""Why a site is skipped whose values were put in order before the activation."""

_LOOKS = {
    Role.FEATURE: "features",
    Role.SAMPLE: "samples",
    Role.PLACE: "positions",
    Role.RANK: "ranks",
    Role.OPEN: "unknown",
}


def _by_weight(atom: Atom) -> int:
    """Sorts atoms by how much they say of their axis: features first."""
    return [Role.FEATURE, Role.RANK, Role.SAMPLE, Role.OPEN, Role.PLACE].index(atom.role)


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of one pre-activation: now, and better after the pass, when its consumers have run."""

    layout: Layout
    shape: tuple[int, ...]

    @property
    def after(self) -> str | None:
        """The path of the layer that made the features."""
        return self.layout.after

    @property
    def obstacle(self) -> str | None:
        """Why the tensor has no units, None if it may have some."""
        ranked = any(atom.role is Role.RANK and atom.size > 1 for axis in self.layout.axes for atom in axis)
        return RANKED if ranked else None

    @property
    def described(self) -> tuple[str, ...]:
        """What each axis looks like: `1 (64, features)`."""
        return tuple(
            f"{d} ({size}, {_LOOKS[next((a.role for a in sorted(axis, key=_by_weight)), Role.PLACE)]})"
            for d, (axis, size) in enumerate(zip(self.layout.axes, self.shape, strict=True))
        )

    def features(self, *, is_final: bool = False) -> Features:
        """Which axes hold the units: known, open until the pass is over, or then a guess."""
        known = self._by_producer() or self._by_consumer(is_final=is_final)
        if known is None:
            known = Features(_from_the_end(self._best(), len(self.shape)), "guess" if is_final else "open")
        return replace(known, has_samples=any(has(axis, Role.SAMPLE) for axis in self.layout.axes))

    def _by_producer(self) -> Features | None:
        axes = self.layout.features or tuple(d for d, axis in enumerate(self.layout.axes) if has(axis, Role.FEATURE))
        if axes:
            return _split(self.layout.axes, axes, self.shape)
        is_open = any(has(axis, Role.OPEN) for axis in self.layout.axes)
        return None if is_open or self.layout.is_lost else Features((), "producer")

    def _by_consumer(self, *, is_final: bool) -> Features | None:
        opens = {d: [a for a in axis if a.role is Role.OPEN] for d, axis in enumerate(self.layout.axes)}
        wanted = [d for d, atoms in opens.items() if any(a.read_as_features for a in atoms)]
        if len(wanted) == 1 and is_final:
            return Features(_from_the_end((wanted[0],), len(self.shape)), "producer")
        if wanted or self.layout.is_lost or not is_final:
            return None
        left = tuple(d for d, atoms in opens.items() if any(not a.read_as_places and a.size > 1 for a in atoms))
        is_told = any(a.read_as_places for atoms in opens.values() for a in atoms)
        if not left and is_told:
            return Features((), "producer")
        is_only = len(left) == 1 and len([d for d, atoms in opens.items() if atoms]) == 1
        return (
            Features(_from_the_end(left, len(self.shape)), "producer")
            if is_only or (left and is_told and len(left) == 1)
            else None
        )

    def _best(self) -> tuple[int, ...]:
        """The axis to guess: what one of several sources said; else 1 of images and volumes, the last of the others."""
        hinted = tuple(d for d, axis in enumerate(self.layout.axes) if any(atom.is_hint for atom in axis))
        wanted = [d for d, axis in enumerate(self.layout.axes) if any(atom.read_as_features for atom in axis)]
        if hinted or wanted:
            return hinted or (wanted[0],)
        free = [d for d, axis in enumerate(self.layout.axes) if not has(axis, Role.SAMPLE)]
        usual = 1 if len(self.shape) > 3 else len(self.shape) - 1
        return (usual,) if usual in free or not free else (free[-1],)


def _split(axes: Sequence[Axis], chosen: Sequence[int], shape: Sequence[int]) -> Features:
    """The features on these axes; an axis into which samples were merged has to be cut up again."""
    merged = next((d for d in chosen if has(axes[d], Role.SAMPLE)), None)
    if merged is None:
        return Features(_from_the_end(tuple(chosen), len(shape)), "producer")
    atoms = axes[merged]
    sizes = tuple(-1 if atom.role is Role.SAMPLE else atom.size for atom in atoms)
    inside = tuple(merged + place for place, atom in enumerate(atoms) if atom.role is Role.FEATURE)
    others = tuple(d if d < merged else d + len(atoms) - 1 for d in chosen if d != merged)
    return Features(tuple(sorted((*inside, *others))), "producer", (merged, sizes))


def _from_the_end(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Features on the last axis are counted from the end, so that they hold for any number of positions before."""
    return tuple(a - ndim for a in axes) if axes and axes[-1] == ndim - 1 and axes[0] > 0 else axes


class Provenance:
    """What the axes stand for of the tensors that are alive."""

    def __init__(self, inputs: Any = (), samples: int = 0, samples_axis: int = 0) -> None:
        """Follow a pass over `inputs`, a nest of tensors, whose `samples_axis` counts samples where it is so long."""
        self._layouts: MutableMapping[Tensor, Layout] = WeakTensorKeyDictionary()
        self._slices = Slices()
        for x in inputs_in(inputs):
            fits = x.ndim > samples_axis and x.shape[samples_axis] == samples
            if x.layout is torch.strided and not x.is_nested:
                self._layouts[x] = opened(x.shape, samples_axis if fits else None)

    def follow(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        layer: Callable[[], str | None],
    ) -> None:
        """Note what the axes stand for of what an operator gave out. `layer` gives the path of the layer at work."""
        outputs = tuple(x for x in tensors_in([output]) if x.layout is torch.strided and not x.is_nested)
        if not outputs:
            return
        arguments = bound(function, args, kwargs)
        inputs = list(tensors_in(arguments.values()))
        rule, makes = rule_of(function)
        name = function.overloadpacket.__name__
        call = Call(name.strip("_"), arguments, outputs, self._layouts.get, layer)
        if not makes and all(self._layouts.get(x) in (None, WEIGHT) for x in inputs):
            if any(map(call.is_weight, inputs)):
                self._layouts.update((out, WEIGHT) for out in outputs)
            elif inputs:
                self._slices.note(call)
            return
        if rule is None:
            for out in outputs:
                self._layouts[out] = self._lost(inputs, out)
            return
        made = rule(call)
        each = [made] * len(outputs) if made is None or isinstance(made, Layout) else made
        for out, layout in zip(outputs, each, strict=True):
            self._learn(out, layout)
            if layout is not None and name.endswith("_"):
                self._slices.written(out, layout, self._learn)

    def _learn(self, x: Tensor, layout: Layout | None) -> None:
        if layout is None:
            self._layouts.pop(x, None)
        elif x.ndim:
            self._layouts[x] = layout if len(layout.axes) == x.ndim else opened(x.shape, is_lost=True)

    def read(self, z: Tensor) -> Reading:
        """What is known of a pre-activation. A tensor of which nothing is known is watched from here on."""
        layout = self._layouts.get(z)
        if layout is None or layout is WEIGHT or len(layout.axes) != z.ndim:
            layout = self._layouts[z] = opened(z.shape, is_lost=True)
        return Reading(layout, tuple(z.shape))

    def _lost(self, inputs: Sequence[Tensor], out: Tensor) -> Layout:
        """After an operator that is not known: all axes are open, but the first where it is as long as the samples."""
        known = (self._layouts.get(x) for x in inputs)
        first = next((layout.axes[0] for layout in known if layout is not None and layout.axes), ())
        fits = bool(out.ndim) and len(first) == 1 and first[0].role is Role.SAMPLE and first[0].size == out.shape[0]
        return opened(out.shape, 0 if fits else None, is_lost=True)


def following(provenance: Provenance, layer: Callable[[], str | None]) -> Operators:
    """A mode under which every operator is followed; `layer` gives the path of the layer at work."""

    def handle(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = function(*args, **kwargs)
        provenance.follow(function, args, kwargs, output, layer)
        return output

    return Operators(handle)
