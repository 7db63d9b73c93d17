"""The operators of the pass of one sample: a program without branches, in which each value has a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from deadrelu.programs.program import CallSite

INPUT = "input"
_MOST_ROWS = 512
_ROOM = 100_000_000
"""Entries of all values together that are held at once."""


@dataclass(frozen=True)
class Ref:
    """Stands for the value of a node among the arguments of another."""

    number: int


@dataclass(frozen=True, eq=False)
class Node:
    """A value: output `pick` of a call of an aten operator (None: its only one). `INPUT` has none.

    `args` and `kwargs` are those of the call, with `Ref`s to other values; all else in them is constant. `obstacle`
    says why the value is not known to be what this call makes of every input.
    """

    number: int
    operator: str
    call: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    pick: int | None
    shape: torch.Size
    dtype: torch.dtype
    obstacle: str = ""

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """The values that it is made of, each once."""
        leaves = tree_leaves((self.args, dict(self.kwargs)), is_leaf=lambda leaf: isinstance(leaf, Ref))
        return tuple(dict.fromkeys(leaf.number for leaf in leaves if isinstance(leaf, Ref)))

    def run(self, values: Mapping[int, Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """The value, from those of its parents; constants are read as `dtype`, where one is given."""

        def filled(leaf: Any) -> Any:
            if isinstance(leaf, Ref):
                return values[leaf.number]
            if isinstance(leaf, (list, tuple)):
                return [filled(each) for each in leaf]
            is_float = isinstance(leaf, Tensor) and leaf.is_floating_point()
            return leaf.to(dtype) if dtype is not None and is_float else leaf

        args = filled(self.args)
        kwargs = {
            key: dtype if key == "dtype" and dtype is not None and value is not None else filled(value)
            for key, value in self.kwargs.items()
        }
        for place in written_by(self.call):
            args[place] = args[place].clone()
        call = torch.ops.aten.reshape.default if self.operator == "view" else self.call  # strides may differ here
        out = call(*args, **kwargs)
        value: Tensor = out if self.pick is None else out[self.pick]
        return value


Rewrite = Callable[[Node, Tensor, Mapping[int, Tensor]], Tensor]
"""Called with a node, its value and those before it; returns the value to go on with."""


@dataclass(frozen=True)
class TapedSite:
    """One activation call of the pass, and the number of its pre-activation; None where that is not of the input.

    `obstacle` says why not every input comes to this call, or comes to it with this value.
    """

    site: CallSite
    number: int | None
    obstacle: str = ""


@dataclass(frozen=True)
class Tape:
    """The values of one pass in the order in which they were made, the inputs first, and its activation calls.

    `outputs` are the values that the pass returns. `branch` says why other inputs may take another way.
    """

    nodes: Sequence[Node]
    inputs: Sequence[int]
    sites: Sequence[TapedSite]
    outputs: Sequence[int]
    branch: str = ""

    def values(
        self, inputs: Sequence[Tensor], wanted: Iterable[int], change: Rewrite | None = None
    ) -> dict[int, Tensor]:
        """The wanted values for one sample, by running the operators again; `change` may replace each as it is made."""
        wanted = set(wanted)
        needed = self.ancestors(wanted)
        found = dict(zip(self.inputs, inputs, strict=True))
        for node in self.nodes[: max(wanted, default=-1) + 1]:
            if node.number in needed and node.operator != INPUT:
                value = node.run(found)
                found[node.number] = value if change is None else change(node, value, found)
        return {number: found[number] for number in wanted}

    def rows_at_once(self, number: int) -> int:
        """How many samples can be run at once up to a value, so that all values before it find room in memory."""
        return max(1, min(_MOST_ROWS, _ROOM // self.size(number)))

    def size(self, number: int) -> int:
        """The entries of all values up to one, together."""
        return sum(self.nodes[each].shape.numel() for each in self.ancestors([number])) or 1

    def ancestors(self, numbers: Iterable[int]) -> set[int]:
        """These values and all that they are made of."""
        needed = set(numbers)
        for node in reversed(self.nodes):
            if node.number in needed:
                needed.update(node.parents)
        return needed


def written_by(func: Callable[..., Any]) -> list[int]:
    """The places of the arguments that an operator writes to."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    arguments = [a for a in schema.arguments if not a.kwarg_only]
    return [place for place, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]
