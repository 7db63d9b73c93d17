"""The protocol that every runnable model answers to, and the nouns that it speaks in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deadrelu.activations import Region
from deadrelu.report import Skipped, Source

Output = Any


@dataclass(frozen=True)
class Batch:
    """One call of the model: what `forward` gets, and how many independent samples that is."""

    samples: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class CallSite:
    """One activation call as the program meets it: a `report.Site` in the making, compared by identity.

    `axis` is the feature axis of the pre-activation, negative when it is counted from the end. `calls` grows to the
    most calls seen in one forward. `certain` is False where the axis was guessed from the number of dimensions.
    """

    op: str
    region: Region
    module: str
    call: int
    functional: bool
    axis: int
    certain: bool
    after: str | None
    source: Source | None
    group: CallGroup

    @property
    def id(self) -> str:
        """DESIGN's id: `layer1.relu`, `layer1.relu#2` where it is called more than once, `layer1:relu#1` if functional."""
        if self.functional:
            return f"{self.module}:{self.op}#{self.call}"
        name = self.module or "(root)"
        return f"{name}#{self.call}" if self.group.calls > 1 else name


@dataclass(eq=False)
class CallGroup:
    """The calls that are counted together: those of one module, or of one function in one module's forward."""

    calls: int = 0


Observer = Callable[[CallSite, Tensor], None]
"""Called with each site and its pre-activation as it executes. It must read the tensor at once: the call may be in place."""

Run = Callable[[Batch], Output]


class Program(Protocol):
    """A model that can be run, and watched while it runs."""

    kind: str
    parameter_names: tuple[str, ...]
    """The names that `forward` takes, in order, as far as they are known."""

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype in which the model expects its input."""

    @property
    def takes_indices(self) -> bool:
        """Whether integers are looked up (an embedding) and so must stay integers."""

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Path and module, in the order of registration, each module once."""

    def example_inputs(self) -> Batch | None:
        """Inputs that the model itself carries, or None."""

    def watched(self, observer: Observer) -> AbstractContextManager[Run]:
        """A function that runs one batch in eval mode without gradients, telling `observer` of each activation call.

        On leaving, also by an error, the model is as it was: training flags, hooks, switches.
        """

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""
