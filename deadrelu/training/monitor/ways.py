"""The two ways to count while a model trains: on its own training passes, or on batches kept for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import nn

from deadrelu.data.batches import Batches
from deadrelu.errors import UsageError
from deadrelu.measure.measurement import Measurement
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import DescribedBatches
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import CallSite
from deadrelu.report import DataInfo
from deadrelu.report.run import Counted
from deadrelu.training.monitor.counts import WindowCounts
from deadrelu.training.monitor.passes import TrainingPasses

_OF_LOOP = DataInfo(source="training batches", kind="dataset", samples=0, batches=0, seed=None)


class CountingWay(Protocol):
    """Counts one window at a time."""

    counted: Counted
    why: str
    """The reason for which it was chosen."""

    def arm(self) -> None:
        """The next step is to be counted."""

    def disarm(self) -> None:
        """Nothing more is counted."""

    def forward_pass(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """What the block runs is one pass over these inputs."""

    def take(self) -> tuple[int, Sequence[WindowCounts]]:
        """How many samples were counted since it was armed, and the sites; nothing if there were none."""

    def layers(self) -> Sequence[str | None]:
        """The layer before each site that is known so far."""

    def data(self) -> DescribedBatches:
        """What the latest window counted, as far as it is kept."""

    def measurement(self) -> Measurement | None:
        """The latest window in full; None if there was none."""


class OnTraining:
    """Counts the training passes themselves."""

    counted: Counted = "training"
    why = "the training passes can be seen"

    def __init__(self, model: nn.Module, program: EagerProgram, plan: Plan, axis: int | None) -> None:
        """`program` runs the `model` inside its wrappers. Raises `UsageError` for one whose passes cannot be seen."""
        if (obstacle := hides_passes(model)) is not None:
            raise UsageError(
                f"the training passes of this model cannot be watched: {obstacle}",
                hint="give probe=batches, which are run through the model in eval mode instead",
            )
        self._plan, self._passes = plan, TrainingPasses(program, plan, axis)
        self._known: Sequence[object] = ()
        self._ids: Mapping[CallSite, str] = {}

    def arm(self) -> None:
        """The next step is to be counted."""
        self._passes.arm()

    def disarm(self) -> None:
        """Nothing more is counted."""
        self._passes.disarm()

    def forward_pass(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Count the block as one pass, if it is armed."""
        return self._passes.around(args, kwargs) if self._passes.is_armed else nullcontext()

    def take(self) -> tuple[int, Sequence[WindowCounts]]:
        """What was counted since it was armed."""
        passes = self._passes
        if not passes.has_counted:
            return 0, []
        passes.observer.finish()
        tallies = passes.observer.tallies()
        met = [(tally.site, tally.site.group.calls) for tally in tallies]
        if met != self._known:  # ids depend on how many calls there are
            if not self._known:
                self._plan.check(passes.measurement())
            self._known = met
            named = passes.observer.named()
            self._ids = {call: site.id for call, site in named.items() if self._plan.wants(site)}
        counted = [tally for tally in tallies if tally.site in self._ids and tally.positions]
        return passes.samples, [WindowCounts.of_tally(self._ids[tally.site], tally) for tally in counted]

    def layers(self) -> Sequence[str | None]:
        """The layer before each site that is known so far."""
        return [tally.site.after for tally in self._passes.observer.tallies()]

    def data(self) -> DescribedBatches:
        """The latest batch of the loop, which is kept until the next one is counted."""
        latest = [] if self._passes.batch is None else [self._passes.batch]
        return Batches.held(latest, _OF_LOOP)

    def measurement(self) -> Measurement | None:
        """The latest window in full."""
        return self._passes.measurement() if self._passes.passes else None


class OnProbe:
    """Counts batches that are kept for that, in eval mode."""

    counted: Counted = "probe"

    def __init__(self, model: nn.Module, program: EagerProgram, plan: Plan, batches: DescribedBatches) -> None:
        """`program` runs the `model` inside its wrappers, but only when a window is taken."""
        obstacle = hides_passes(model)
        self.why = "probe was given" + (f", and {obstacle}" if obstacle else "")
        self._program, self._plan, self._batches = program, plan, batches
        self._latest: Measurement | None = None
        self._layers: list[str | None] = []

    def arm(self) -> None:
        """Nothing has to be prepared."""

    def disarm(self) -> None:
        """Nothing is on the model between two windows."""

    def forward_pass(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """The passes of the loop are not counted."""
        del args, kwargs
        return nullcontext()

    def take(self) -> tuple[int, Sequence[WindowCounts]]:
        """Run the batches; the model comes back as it was."""
        self._latest = found = measure(self._program, self._batches, self._plan)
        wanted = [site for site in found.measured if self._plan.wants(site.site)]
        self._layers = [site.site.after for site in wanted]
        return found.samples, [WindowCounts.of_site(site) for site in wanted]

    def layers(self) -> Sequence[str | None]:
        """The layer before each site that is known so far."""
        return self._layers

    def data(self) -> DescribedBatches:
        """The batches of the probe."""
        return self._batches

    def measurement(self) -> Measurement | None:
        """The latest window in full."""
        return self._latest


def hides_passes(model: nn.Module) -> str | None:
    """Why hooks on the training passes of a model would miss or break something; None if they would not."""
    for path, module in model.named_modules():
        name = f"`{path}`" if path else "it"
        if hasattr(module, "_orig_mod") or module.__dict__.get("_compiled_call_impl") is not None:
            return f"{name} is compiled, and hooks would break its graphs"
        if isinstance(module, nn.DataParallel):
            return f"{name} is a DataParallel, whose replicas are other modules"
        if any(cls.__name__ in ("FullyShardedDataParallel", "FSDPModule") for cls in type(module).__mro__):
            return f"{name} is sharded (FSDP)"
    return None
