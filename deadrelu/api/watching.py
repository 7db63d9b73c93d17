"""`watch`: the units of a model while it trains. Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.api.live import open_live
from deadrelu.data.spec import DataOptions, DataSpec, axis_of_loop
from deadrelu.judge.shares import Share, read_limit
from deadrelu.keywords import takes

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from typing_extensions import Unpack

    from deadrelu.report.run import Event
    from deadrelu.training.monitor.log import LogTo
    from deadrelu.training.monitor.monitor import Monitor


@takes(DataSpec)
def watch(
    model: nn.Module,
    *,
    every: int = 50,
    log: LogTo = None,
    probe: object = None,
    optimizer: Optimizer | None = None,
    on_event: Callable[[Event], object] | None = None,
    max_dead: Share | None = None,
    then: Literal["raise", "warn", "stop"] = "raise",
    dead_after: int = 1000,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    feature_axes: Mapping[str, int | None] | None = None,
    **options: Unpack[DataOptions],
) -> Monitor:
    """Watch which units of `model` fire while it trains: enter the result, and call its `step()` after each step.

    The first step is counted and then each `every`-th: all forward passes in training mode since the step before it, as
    the loop makes them. In between, nothing is on the model, and what is on it never gets into a copy or a file. With
    `probe`, batches of your own are run in eval mode instead: for models whose passes cannot be seen (compiled, FSDP,
    DataParallel). In a process group of torch.distributed the counts of all ranks are added.

    Raises a `DeadreluError` with a hint: `UsageError` where the passes cannot be seen and there is no probe, and at
    the first window for a glob that matches no site;
    `OutputError` where the log exists, `DataError` for the probe.

    `every`: how many steps from one window to the next.
    `log`: a path, to which each window is written as a line of JSON; a function of values by name and the step, such as
        `wandb.log`; or a list of these.
    `probe`: data, as for `scan`. With several ranks each takes its own.
    `optimizer`: adds the norm of the gradient, the size of each layer's step, and units whose weights get no gradient.
    `on_event`: is called with each event: a unit that died or revived, a site that is wholly dead, a non-finite
        value, a gradient that vanished or exploded.
    `max_dead`: the share of a site's units that may be dead.
    `then`: what happens beyond that: "raise" a `TooManyDeadError`, "warn", or "stop", which sets `monitor.should_stop`.
    `dead_after`: a unit also counts as dead for `max_dead` once so many samples found it silent.
    `sites`, `skip_sites`, `feature_axes`: as for `scan`.
    """
    from deadrelu.data.source import open_data
    from deadrelu.measure.plan import Plan
    from deadrelu.training.monitor.log import Log
    from deadrelu.training.monitor.monitor import Monitor
    from deadrelu.training.monitor.ranks import is_first_rank
    from deadrelu.training.monitor.steps import Steps
    from deadrelu.training.monitor.ways import OnProbe, OnTraining

    plan = Plan(sites=tuple(sites), skip_sites=tuple(skip_sites), feature_axes=feature_axes or {}, stats="rates")
    spec = DataSpec.of(probe, options)
    program, info = open_live(model)
    way: Any = (
        OnTraining(model, program, plan, axis_of_loop(options))
        if probe is None
        else OnProbe(model, program, plan, open_data(spec, program))
    )
    return Monitor(
        info,
        way,
        plan,
        every=every,
        log=Log(log, may_write=is_first_rank()),
        steps=None if optimizer is None else Steps(program.module, optimizer),
        on_event=on_event,
        max_dead=read_limit("max_dead", max_dead),
        then=then,
        dead_after=dead_after,
    )
