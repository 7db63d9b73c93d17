"""The protocol of every runnable model, and its nouns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from deadrelu.flatness import Parameters
from deadrelu.programs.axes.origins import LayerEntries, UnitOrigin
from deadrelu.programs.axes.paths import ReachedCall
from deadrelu.programs.naming import Name
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped, Source

Output = Any

ROOT = "(root)"
"""The id of a model that is itself an activation module: its path is empty."""


@dataclass(frozen=True)
class Batch:
    """One call of the model: the arguments of `forward`, and how many independent samples they hold.

    `axis` is the position of the samples in the model's input: 0, or 1 where time comes first. `labels` are for a loss:
    the model does not get them.
    """

    samples: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    axis: int = 0
    labels: Any = None


@dataclass(eq=False)
class CallGroup:
    """Calls that are counted together: those of one module, or of one function in one module's forward."""

    calls: int = 0
    """The most calls seen in one forward pass."""


@dataclass(frozen=True)
class Features:
    """Which axes of a pre-activation hold its units, in order; all counted from the front, or all from the end.

    More than one where a reshape has split them (the heads of an attention): then each combination is a unit. None
    where the whole tensor is one unit: a feature was picked out of its axis, or features were summed.

    `by` is the source of this: the layers around the call, `--feature-axis`, or a guess. It is "open" until the end of
    the forward pass in which the site was met, since a layer that reads the output may decide it. With `cut`, the axes
    are those after an axis (first) is split into these sizes: features that were merged with the samples. `has_samples`
    means that every sample of the batch is known to be in the tensor, on whichever axis.
    """

    axes: tuple[int, ...]
    by: Literal["producer", "flag", "guess", "open"] = "producer"
    cut: tuple[int, tuple[int, ...]] | None = None
    has_samples: bool = False

    def apart(self, z: Tensor) -> Tensor:
        """The tensor to which `axes` refer."""
        return z if self.cut is None else z.unflatten(*self.cut)


@dataclass(eq=False)
class CallSite:
    """One activation call of the program, from which a `report.Site` is made; compared by identity.

    `parameters` are those of the activation: the bounds of a hardtanh; the slope of a PReLU, or one for each entry of
    dimension 1. `group` counts the calls that share its name. `after` is the path of the layer that produced the
    pre-activation. If `rectified`, the ReLU is fused into that layer and the observer gets its output, in which zero
    means silent. `obstacle` is why the pre-activation has no units, if so; `axes` describes each of its axes for a
    person.
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
    origin: UnitOrigin | None = None
    """The layer that computed the pre-activation, if it was one alone; an observer drops it if it is not needed."""
    entries: LayerEntries | None = None
    """What the layers were given in the pass in which the site was met."""
    reached: ReachedCall | None = None
    """The activation call in that pass."""
    name: Name | None = None
    """That of a functional call, once the layer that produced its pre-activation is known."""

    @property
    def id(self) -> str:
        """The name (docs/words.md): `layer1.relu`, `layer1.relu#2` if called again, `layer1.bn1:relu` of a function."""
        return str(self.name) if self.name else self._counted

    @property
    def alias(self) -> str | None:
        """The id of a functional call in earlier versions, by its number alone; None if it is the same as `id`."""
        return self._counted if self.id != self._counted else None

    @property
    def _counted(self) -> str:
        return site_id(self.module, self.op, self.call, self.group.calls, functional=self.functional)


def site_id(module: str, op: str, call: int, calls: int, *, functional: bool) -> str:
    """The id of one of `calls` calls of an activation module, or of a function whose producer is unknown."""
    if functional:
        return f"{module}:{op}#{call}"
    name = module or ROOT
    return f"{name}#{call}" if calls > 1 else name


Observer = Callable[[CallSite, Tensor], bool | None]
"""Called with each site and its pre-activation, which it must read at once: the call may be in place.

Returns True once it needs no more of the site: then it need not be called again.
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
    """One wanted swap: the activation call `site_id` becomes `to`, one of `REPLACEMENTS`; `KEEP` lets it be.

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

    def watched(self, observer: Observer, tap: Tap = NO_TAP) -> AbstractContextManager[Run]:
        """A function that runs one batch in eval mode and notifies `observer` of activation calls.

        The pass has gradients where the `tap` is on. Raises `ModelError` for a tap on a program that cannot have one.
        On leaving, also by an error, the model is as it was: training flags, hooks, switches.
        """

    def plainly(self) -> AbstractContextManager[Run]:
        """A function that runs one batch as `watched` does, also inside of it, and notifies no observer."""

    def skipped(self) -> tuple[Skipped, ...]:
        """After the runs: what could not be observed, and what was never called."""

    def swap(self, swaps: Sequence[Swap]) -> Swapped:
        """Put other activations in the place of the named sites.

        The sites have their ids from the last run: raises `UsageError` where there was none.
        """

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write it in its own format, for plain torch to load. Raises `OutputError` where it cannot be written."""
