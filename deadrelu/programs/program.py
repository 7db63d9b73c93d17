"""The protocol that every runnable model answers to, and the nouns that it speaks in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from deadrelu.activations import BY_NAME, Parameters, Region
from deadrelu.programs.naming import Name
from deadrelu.report import Leaky, Skipped, Source

Output = Any

ROOT = "(root)"
"""The id of a model that is itself an activation module: its path is empty."""


@dataclass(frozen=True)
class Batch:
    """One call of the model: what `forward` gets, and how many independent samples that is.

    `axis` is the position of the samples in the model's input: 0, or 1 where time comes first.
    """

    samples: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    axis: int = 0


@dataclass(eq=False)
class CallGroup:
    """The calls that are counted together: those of one module, or of one function in one module's forward."""

    calls: int = 0
    """The most calls seen in one forward pass."""


@dataclass(frozen=True)
class Features:
    """Which axes of a pre-activation tell its units apart, in order; all from the front, or all from the end.

    More than one where a reshape has split them (the heads of an attention): together they count one unit for each
    combination. None where the whole tensor is one unit: a feature was picked out of its axis, or features summed up.

    `by` says who knows: the layers around the call, `--feature-axis`, or nobody (a guess). It is "open" until the
    forward pass is over in which the site was met, since a layer that reads the output may tell. With `cut`, the axes
    are those after an axis (first) was cut into these sizes: features that were merged with the samples. `has_samples`
    says that every sample of the batch is known to be in the tensor, wherever its axis is.
    """

    axes: tuple[int, ...]
    by: Literal["producer", "flag", "guess", "open"] = "producer"
    cut: tuple[int, tuple[int, ...]] | None = None
    has_samples: bool = False

    def apart(self, z: Tensor) -> Tensor:
        """The tensor in which `axes` count."""
        return z if self.cut is None else z.unflatten(*self.cut)


@dataclass(eq=False)
class CallSite:
    """One activation call as the program meets it: a `report.Site` in the making, compared by identity.

    `parameters` are the activation's own: the bounds of a hardtanh; the slopes, along dimension 1, of a ReLU that leaks
    in some units. `group` knows how many calls share its name.
    `after` is the path of the layer that produced the pre-activation. Where that was `rectified`, the ReLU is fused
    into the layer and the observer gets what it left: zero stands for everything that was silent. `obstacle` says why
    the pre-activation has no units, if it has none; `axes` what each of its axes looks like, for a person. `shape` is
    that of the pre-activation where the activation is leaky: such a call is listed, and no observer gets it.
    """

    op: str
    parameters: Parameters
    module: str
    call: int
    functional: bool
    features: Features
    after: str | None
    source: Source | None
    group: CallGroup
    rectified: bool = False
    obstacle: str | None = None
    axes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    name: Name | None = None
    """Of a functional call, once the layer is known that produced its pre-activation."""

    @property
    def region(self) -> Region:
        """Where a unit of this site fires."""
        return BY_NAME[self.op].region(self.parameters)

    @property
    def id(self) -> str:
        """The name (docs/words.md): `layer1.relu`, `layer1.relu#2` if called again, `layer1.bn1:relu` of a function."""
        return str(self.name) if self.name else self._counted

    @property
    def alias(self) -> str | None:
        """The id by which earlier versions knew a functional call: the number of the call alone; None if it is `id`."""
        return self._counted if self.id != self._counted else None

    @property
    def _counted(self) -> str:
        return site_id(self.module, self.op, self.call, self.group.calls, functional=self.functional)


def site_id(module: str, op: str, call: int, calls: int, *, functional: bool) -> str:
    """The id of one call of so many: of an activation module, or of a function whose producer is not known."""
    if functional:
        return f"{module}:{op}#{call}"
    name = module or ROOT
    return f"{name}#{call}" if calls > 1 else name


Observer = Callable[[CallSite, Tensor], bool | None]
"""Called with each site and its pre-activation as it executes. It must read at once: the call may be in place.

It returns True where it has nothing more to learn of the site: then it need not be called again.
"""

Run = Callable[[Batch], Output]


@dataclass(frozen=True)
class DeadUnits:
    """The dead units of one call, of so many on this axis (None: it is one unit)."""

    dead: tuple[int, ...]
    units: int
    axis: int | None
    is_guessed: bool = False


@dataclass(frozen=True)
class Swap:
    """One wanted swap: the activation call `site_id` becomes `to`, one of `activations.REPLACEMENTS`.

    `slope` is that of a leaky ReLU or a PReLU for negative inputs; the others have none. With `only`, the dead units
    alone leak.
    """

    site_id: str
    to: str
    slope: float
    only: DeadUnits | None = None


@dataclass(frozen=True)
class SwappedCall:
    """What one call was and is, as text; of a module also the new module and its path."""

    old: str
    new: str
    module: nn.Module | None = None
    path: str = ""


@dataclass(frozen=True)
class Swapped:
    """The swaps that were made, by site id, and why each of the others was not.

    `renamed` gives the new ids of sites that stay, where a swap took a call before them out of the count: of
    `relu#1` and `relu#2` the one that is left is `relu`.
    """

    done: Mapping[str, SwappedCall]
    refused: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)


class Program(Protocol):
    """A model that can be run, watched while it runs, changed and saved."""

    kind: str
    device: torch.device | None
    """Where it runs; None is wherever it is."""
    parameter_names: tuple[str, ...]
    """The names that `forward` takes, in order, as far as they are known."""

    @property
    def module(self) -> nn.Module:
        """The module that holds the weights: the user's own, or the one that torch made of a graph."""

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

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch, cut into as many as the model takes in one call, if its batch size is fixed."""

    def watched(self, observer: Observer) -> AbstractContextManager[Run]:
        """A function that runs one batch in eval mode without gradients, telling `observer` of each activation call.

        On leaving, also by an error, the model is as it was: training flags, hooks, switches.
        """

    def plainly(self) -> AbstractContextManager[Run]:
        """A function that runs one batch as `watched` does, also inside of it, and notifies no observer."""

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""

    def leaky(self) -> tuple[Leaky, ...]:
        """After the runs: the calls of leaky activations, in the order in which they first ran."""

    def swap(self, swaps: Sequence[Swap]) -> Swapped:
        """Put other activations in the place of the named sites.

        The sites have their ids from the last run: raises `UsageError` where there was none.
        """

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write it in its own format, for plain torch to load. Raises `OutputError` where it cannot be written."""
