"""Names each functional call by what produced its pre-activation: `conv2:relu`, and `conv2:relu#2` for the second.

Numbering all calls would rename every later site when one `F.relu` becomes an `F.leaky_relu`. So a name starts with the
layer before the call, and a leaky call still takes a number.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Name:
    """The id of a functional call: `producer:op`, or `module:op#number` where no layer of that module produced it."""

    base: str
    number: int
    by_producer: bool

    def __str__(self) -> str:
        return self.base if self.by_producer and self.number == 1 else f"{self.base}#{self.number}"

    def shifted(self, by: int) -> Name:
        """The name with its number raised by so many (or lowered)."""
        return replace(self, number=self.number + by)


class Naming:
    """Names calls while the operators of a pass are tracked, and never gives a name twice."""

    def __init__(self) -> None:
        """Start without names."""
        self._given: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self._leaks: Counter[str] = Counter()

    def start_pass(self) -> None:
        """Count the calls from 1 again; names that were given stay."""
        self._numbers.clear()
        self._leaks.clear()

    def pass_leak(self, module: str, after: str | None) -> None:
        """Count a leaky call in the forward of `module`: it takes the number of the ReLU that it may replace."""
        self._leaks[module] += 1
        if after is not None and _is_inside(after, module):
            self._numbers[f"{after}:relu"] += 1

    def name(self, module: str, op: str, call: int, after: str | None) -> Name:
        """The name of the `call`-th call of `op` that the forward of `module` makes, on what layer `after` produced.

        A producer outside of the module is ignored: all blocks of a residual network would be named after its stem.
        """
        if after is not None and _is_inside(after, module):
            found = Name(f"{after}:{op}", self._numbers[f"{after}:{op}"] + 1, by_producer=True)
        else:
            leaks = self._leaks[module] if op == "relu" else 0
            found = Name(f"{module}:{op}", call + leaks, by_producer=False)
        while str(found) in self._given:
            found = found.shifted(1)
        self._given.add(str(found))
        self.meet(found)
        return found

    def meet(self, name: Name) -> None:
        """Record that the call of this name was made in the present pass: later ones get higher numbers."""
        if name.by_producer:
            self._numbers[name.base] = max(self._numbers[name.base], name.number)


def _is_inside(path: str, module: str) -> bool:
    """Whether a layer is a submodule of the module; every layer is one of the model (path "")."""
    return path.startswith(f"{module}.") if module else path != ""
