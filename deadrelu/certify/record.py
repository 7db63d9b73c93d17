"""Records the pass of one sample as a tape.

What cannot be recorded faithfully is marked with its reason: a value that decides a branch, random numbers, a write
into a part of a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from deadrelu.certify.tape import INPUT, Node, Ref, Tape, TapedSite, written_by
from deadrelu.programs.modes import Functions, Operators
from deadrelu.programs.program import Batch, CallSite, Program
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.programs.script.probe import KIND as PROBE

_OF_SHAPES = frozenset({"is_same_size", *(f"{name}_like" for name in ("zeros", "ones", "full", "empty"))}) | {
    f"new_{name}" for name in ("zeros", "ones", "full", "empty", "empty_strided")
}
"""Operators that read the shape of a tensor, and none of its values."""


_LEAKS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr)


@dataclass
class _Recorder:
    """The tape while it is written. Each tensor that is alive in the pass has the number of its value."""

    nodes: list[Node] = field(default_factory=list)
    sites: list[TapedSite] = field(default_factory=list)
    known: dict[int, tuple[Tensor, int]] = field(default_factory=dict)
    places: dict[tuple[object, ...], int] = field(default_factory=dict)
    """The same by where the value lies in memory."""
    constants: list[tuple[Tensor, int, int]] = field(default_factory=list)
    spoilt: dict[int, str] = field(default_factory=dict)
    """Storages into which values were written in part, and the reason."""
    obstacle: str = ""
    """Why nothing that follows is known."""
    branch: str = ""
    """Why other inputs may take another way."""

    def add(self, operator: str, call: Any, args: Any, kwargs: Any, pick: int | None, value: Tensor, why: str) -> int:
        number = len(self.nodes)
        node = Node(number, operator, call, args, kwargs, pick, value.shape, value.dtype, why)
        self.nodes.append(node)
        self._name(value, number)
        return number

    def _name(self, value: Tensor, number: int) -> None:
        self.known[id(value)] = (value, number)
        self.places[_place(value)] = number

    def number(self, value: Tensor) -> int | None:
        """The number of a tensor's value; None for a constant."""
        if id(value) in self.known:
            return self.known[id(value)][1]
        if _place(value) in self.places:  # a detached alias, made while no mode looked
            return self.places[_place(value)]
        why = self.spoilt.get(_storage(value))
        return None if why is None else self.add("", None, (), {}, None, value, why)

    def on_operator(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator and write it down, if it reads anything that depends on the input."""

        def ref(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            number = self.number(leaf)
            return leaf.detach() if number is None else Ref(number)

        if func._schema.name == PROBE:  # a graph's own tap, which returns what it is given
            out = func(*args, **kwargs)
            if (number := self.number(args[0])) is not None:
                self._name(out, number)
            return out
        taped = tree_map(ref, (args, dict(kwargs)))
        leaves = tree_leaves(taped, is_leaf=lambda leaf: isinstance(leaf, Ref))
        out = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        if not self.obstacle and torch.Tag.nondeterministic_seeded in func.tags and _draws(name, args, kwargs):
            self.obstacle = f"it draws random numbers ({name})"
        if name in _OF_SHAPES or not any(isinstance(leaf, Ref) for leaf in leaves):
            return out
        outputs = list(out) if isinstance(out, (tuple, list)) else [out]
        tensors = [(place, value) for place, value in enumerate(outputs) if isinstance(value, Tensor)]
        if not tensors:
            self._may_branch(f"the model decides by a value of its data what it computes ({name})")
        self._remember_constants(leaves)
        written = [args[place] for place in written_by(func) if place < len(args)]
        constant = any(not isinstance(taped[0][place], Ref) for place in written_by(func) if place < len(args))
        why = self.obstacle or (f"it is written into a tensor that was there before ({name})" if constant else "")
        for value in written:
            self._spoil_others(value, f"it is written into a part of a tensor ({name})")
        picks = isinstance(out, (tuple, list))
        for place, value in tensors:
            pick = place if picks else None
            self.add(name.rstrip("_"), func, taped[0], taped[1], pick, value, why)
        return out

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a function; one that gives values away to Python, without an operator, makes what follows unknown."""
        if func in _LEAKS and args and isinstance(args[0], Tensor) and self.number(args[0]) is not None:
            self._may_branch(f"the model reads its data outside of torch ({func.__name__})")
        return func(*args, **kwargs)

    def _may_branch(self, why: str) -> None:
        self.obstacle = self.obstacle or why
        self.branch = self.branch or why

    def _remember_constants(self, leaves: Iterable[Any]) -> None:
        at = len(self.nodes)
        self.constants += [
            (leaf, leaf._version, at) for leaf in leaves if isinstance(leaf, Tensor) and _has_version(leaf)
        ]

    def _spoil_others(self, value: Any, why: str) -> None:
        """Every other tensor that shares memory with one that is written to has another value now."""
        if not isinstance(value, Tensor):
            return
        place = _storage(value)
        for key, (other, _) in list(self.known.items()):
            if other is not value and _storage(other) == place:
                del self.known[key]
                self.places.pop(_place(other), None)
                self.spoilt[place] = why
        base = value._base if value._is_view() else None
        if base is not None or value.numel() * value.element_size() != value.untyped_storage().nbytes():
            self.spoilt[place] = why

    def on_site(self, site: CallSite, z: Tensor) -> None:
        """Write down an activation call."""
        self.sites.append(TapedSite(site, self.number(z), self.obstacle))

    def finished(self, inputs: Sequence[int], output: Any) -> Tape:
        """The tape; constants that changed during the pass spoil what read them."""
        changed = {at for constant, version, at in self.constants if _version_of(constant) != version}
        nodes = [
            replace(node, obstacle="a tensor that it reads changes during the pass")
            if node.number in changed and not node.obstacle
            else node
            for node in self.nodes
        ]
        outputs = [number for value in tensor_leaves(output) if (number := self.number(value)) is not None]
        return Tape(nodes, inputs, self.sites, outputs, self.branch)


def record(program: Program, batch: Batch) -> Tape:
    """Run a batch of one sample, and record what is computed of it. Raises what the model raises."""
    recorder = _Recorder()
    inputs = [
        recorder.add(INPUT, None, (), {}, None, value, "") for value in tensor_leaves((batch.args, dict(batch.kwargs)))
    ]
    with program.watched(recorder.on_site) as run, Operators(recorder.on_operator), Functions(recorder.on_function):
        output = run(batch)
    return recorder.finished(inputs, output)


def _draws(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operator that may draw random numbers does; attention, dropout and RReLU do so in training alone."""
    if name.startswith("_scaled_dot_product"):
        place = 4 if "efficient" in name else 3
        return bool(kwargs.get("dropout_p", args[place] if len(args) > place else 0.0))
    if name in ("rrelu_with_noise", "rrelu_with_noise_"):
        return bool(kwargs.get("training", args[4] if len(args) > 4 else False))
    return name not in ("native_dropout", "dropout") or bool(args[2] if len(args) > 2 else True)


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() or id(value)


def _place(value: Tensor) -> tuple[object, ...]:
    return _storage(value), value.storage_offset(), value.shape, value.stride(), value.dtype


def _has_version(value: Tensor) -> bool:
    return not value.is_inference()


def _version_of(value: Tensor) -> int:
    return value._version if _has_version(value) else 0
