"""`recycle`: restart units while a model trains, with the optimizer's memory of them. Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deadrelu.api.live import open_live
from deadrelu.data.spec import DataOptions, DataSpec
from deadrelu.errors import UsageError
from deadrelu.keywords import takes

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from typing_extensions import Unpack

    from deadrelu.measure.reporting import DescribedBatches
    from deadrelu.remedy.moments import Moments
    from deadrelu.training.recycle.recycle import ChoiceRule, Recycled
    from deadrelu.training.recycle.recycler import Recycler


@takes(DataSpec)
def recycle(
    model: nn.Module,
    optimizer: Optimizer | None,
    data: object,
    *,
    tau: float = 0.0,
    rule: ChoiceRule = "dormancy",
    most: float = 1.0,
    moments: Moments = "live mean",
    draw: int = 0,
    **options: Unpack[DataOptions],
) -> Mapping[str, Recycled]:
    """Restart the units of `model` that do nothing, in place, and mend what the optimizer remembers of their weights.

    The weights into a unit are drawn new, its bias is 0 and its batch norm neutral, and the weights out of it are 0
    (ReDo; Sokar et al. 2023). With `tau` 0 only dead units are restarted, and the output on `data` does not move.
    Returns what was restarted by site, with the reason where a site was left as it is: its layer or what reads it is
    not known, or shares its weights with another.

    Raises a `DeadreluError` with a hint, before anything is changed.

    `optimizer`: SGD, Adam, AdamW, RMSprop and their kin; None if there is none yet.
    `data`: as for `scan`; or a monitor, of whose latest batch those units are dead that it has seen die or be silent
        for its `dead_after` samples.
    `tau`: units with a score of at most this are restarted. Score: mean |output| over its mean across the site.
    `rule`: "dormancy", that score; or "utility", mean |output| times the sum of the |weights| out of a unit, of which
        the least are taken (Dohare et al. 2024).
    `most`: at most this share of a site's units, the least first.
    `moments`: "live mean" sets means of gradients to 0 and their sizes to the mean of the layer's live units, "zero"
        sets both to 0, as ReDo does, and "keep" leaves them. After "zero" and "keep" most units die again.
    `draw`: the seed of the new weights.
    """
    from deadrelu.data.source import open_data
    from deadrelu.measure.plan import Plan
    from deadrelu.measure.reporting import report_on
    from deadrelu.remedy.moments import read_moments
    from deadrelu.training.monitor.monitor import Monitor
    from deadrelu.training.recycle import recycle as restarting

    choice = restarting.UnitChoice(rule=rule, tau=tau, most=most)
    chosen = read_moments(moments)
    program, info = open_live(model)
    batches: DescribedBatches
    if isinstance(data, Monitor):
        if tau or rule != "dormancy":
            raise UsageError("a monitor knows dead units, and no scores", hint="give data for tau and rule")
        batches = data.data()
    else:
        batches = open_data(DataSpec.of(data, options), program)
    report, batch = report_on(program, info, batches, Plan()), next(iter(batches))
    if isinstance(data, Monitor):
        report = restarting.known_dead(report, data.dead_units())
    return restarting.recycle(program, optimizer, report, batch, choice, moments=chosen, seed=draw)


def recycler(
    model: nn.Module,
    optimizer: Optimizer | None,
    data: object,
    *,
    every: int,
    until: int | None = None,
    **options: Any,
) -> Recycler:
    """Return what restarts units at every so many steps: call its `step()` after each step of the optimizer.

    Raises `UsageError` for an `every` below 1; `step()` raises what `recycle` raises.

    `every`: how many steps from one restart to the next.
    `until`: the last step at which units are restarted.
    `options`: those of `recycle`; the new weights differ from step to step.
    """
    from deadrelu.training.recycle.recycler import Recycler

    draw = options.pop("draw", 0)
    return Recycler(lambda step: recycle(model, optimizer, data, draw=draw + step, **options), every, until)
