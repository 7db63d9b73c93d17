"""Writes a network statement by statement, and knows of every tensor what each of its axes is.

A layout has one letter for each axis: N samples, P positions, F features, R ranks of features (what a sort leaves),
f features of one of two tensors that were joined, in a hard network.
Units are the combinations of the F axes, in axis order; a tensor without F and R axes is one unit.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLES = 3
"""How many samples each statement is tried on while the network is written."""
LARGEST = 1500
"""How many numbers a sample may have at most, anywhere in the network."""


@dataclass(frozen=True)
class Value:
    """One variable of the forward pass: its layout, and what it is for the examples.

    `fold` is how to unflatten the sample axis where positions have been flattened into it. `is_mixed` where a feature
    axis also counts positions, copies or stacked values: to split it may give the axes back from which it came.
    """

    name: str
    layout: str
    x: Tensor
    fold: tuple[int, ...] = ()
    is_rectified: bool = False
    is_mixed: bool = False

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.layout)

    @property
    def features(self) -> list[int]:
        """The feature axes."""
        return self.axes("F")

    @property
    def feature(self) -> int | None:
        """The only feature axis; None if there are several or none, or ranks."""
        return self.features[0] if len(self.features) == 1 and not self.axes("Rf") else None

    @property
    def is_one_unit(self) -> bool:
        """Whether there is one unit: no feature axis, or none that is longer than one."""
        return not self.axes("Rf") and all(self.size(axis) == 1 for axis in self.features)

    def axes(self, letters: str) -> list[int]:
        """The axes with one of these letters."""
        return [axis for axis, letter in enumerate(self.layout) if letter in letters]

    def size(self, axis: int) -> int:
        """The length of an axis; only of the sample axis does it depend on the batch."""
        return self.x.shape[axis]

    def made_at(self, axis: int) -> str:
        """The layout after a layer that puts its features on `axis`."""
        return "".join("F" if i == axis else "N" if letter == "N" else "P" for i, letter in enumerate(self.layout))

    def without(self, *axes: int) -> str:
        """The layout when these axes are gone."""
        return "".join(letter for axis, letter in enumerate(self.layout) if axis not in axes)


@dataclass(frozen=True)
class Placed:
    """An activation call: the module that makes it (None: a function), its pre-activation, and which one it is."""

    module: str | None
    z: str
    layout: str
    op: str


class TooLargeError(Exception):
    """The statement would make more numbers than a small test should."""


class Builder:
    """The network so far. `random` makes every choice, so that a seed gives the same network each time."""

    def __init__(self, seed: int) -> None:
        """Start with no layer and no statement."""
        self.random = random.Random(seed)
        self.layers: list[tuple[str, str]] = []
        self.statements: list[str] = []
        self.values: list[Value] = []
        self.placed: dict[int, Placed] = {}
        """The activation calls, by the number of their statement."""
        self.taken: list[str] = []
        """The names of the steps that were taken."""
        self._module = nn.Module()
        self._parts: tuple[list[Any], ...] = (self.layers, self.statements, self.values)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def width(self) -> int:
        """How many features a layer gives; some equal a batch size or a number of positions."""
        return self.random.choice((1, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 12))

    def layer(self, kind: str, code: str) -> str:
        """Add a layer, parameter or buffer; the expression that names it in `forward`."""
        name = f"{kind}{len(self.layers)}"
        setattr(self._module, name, eval(code, {"nn": nn, "torch": torch}))
        self._module.eval()
        self.layers.append((name, code))
        return f"self.{name}"

    def place(self, z: Value, op: str, module: str | None = None) -> None:
        """The next statement calls an activation on `z`."""
        self.placed[len(self.statements)] = Placed(module, z.name, z.layout, op)

    def given(self, x: Tensor, layout: str) -> Value:
        """The input of the network."""
        value = Value("x0", layout, x)
        self.values.append(value)
        return value

    def emit(self, code: str, layout: str, like: Value, **changes: object) -> Value:
        """Add the statement that computes `code`; `like` says how its samples are folded."""
        scope = {value.name: value.x for value in self.values}
        with torch.no_grad():
            x = eval(code, {"torch": torch, "F": F, "nn": nn, "self": self._module, **scope})
        assert x.ndim == len(layout), (code, layout, x.shape)
        if x.numel() > EXAMPLES * LARGEST:
            raise TooLargeError
        value = Value(
            f"x{len(self.statements) + 1}", layout, x, **{"fold": like.fold, "is_mixed": like.is_mixed, **changes}
        )
        self.statements.append(f"{value.name} = {code}")
        self.values.append(value)
        return value

    def attempt(self, step: Callable[[Builder, Value], Value | None], v: Value) -> Value | None:
        """Take a step; where it does not fit, or makes too many numbers, the network stays as it was."""
        lengths, placed = [len(part) for part in self._parts], dict(self.placed)
        try:
            made = step(self, v)
        except TooLargeError:
            made = None
        if made is None:
            for part, length in zip(self._parts, lengths, strict=True):
                del part[length:]
            self.placed = placed
        else:
            self.taken.append(step.__name__)
        return made

    def make(self, code: str, layout: str, like: Value) -> Value:
        """Add the statement of a layer that makes features."""
        return self.emit(code, layout, like, is_mixed=False)

    def source(self, *, recording: bool = False) -> str:
        """The network as a module that can be read, run and pasted.

        With `recording` it appends a copy of each pre-activation to `self.record`.
        """
        used = set(re.findall(r"\bx\d+\b", " ".join(line.partition(" = ")[2] for line in self.statements)))
        lines = ["class Network(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        lines += [f"        self.{name} = {code}" for name, code in self.layers]
        lines += ["", "    def forward(self, x0):"]
        for number, (statement, value) in enumerate(zip(self.statements, self.values[1:], strict=True)):
            if recording and number in self.placed:
                lines.append(f"        self.record.append({self.placed[number].z}.detach().clone())")
            note = "" if recording else f"  # {value.layout} {tuple(value.x.shape)}"
            lines.append(f"        {statement}{note}")
        loose = [value.name for value in self.values[1:] if value.name not in used]
        lines.append(f"        return {', '.join(loose)}")
        return "\n".join(lines) + "\n"
