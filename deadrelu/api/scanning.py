"""`open_model` and `scan`. Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from deadrelu.data.spec import DataOptions, DataSpec, LossSpec
from deadrelu.judge.definitions import Definition
from deadrelu.judge.early import Until, predict_verdict
from deadrelu.judge.initial import with_initial
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy, policy_of
from deadrelu.judge.requirements import check_combination
from deadrelu.judge.shares import Limits, Share
from deadrelu.keywords import takes, undisturbed
from deadrelu.load.spec import ModelOptions, ModelSpec
from deadrelu.report import Report, Setting, Stats
from deadrelu.report.commands import words_of
from deadrelu.report.options import flags_of, settings_of

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from deadrelu.load.open import Opened
    from deadrelu.measure.distributed import Ranks
    from deadrelu.measure.early_stopping import Stop
    from deadrelu.measure.losses import Loss
    from deadrelu.measure.plan import Plan, Unmatched

    class Options(ModelOptions, DataOptions):
        """The keywords that say how a model is opened, and where its batches come from."""


@takes(ModelSpec)
def open_model(model: str | Path, **options: Unpack[ModelOptions]) -> Opened:
    """Open a saved model without running code from the file, unless `trust` allows it.

    The result has `.module` and `.info`. Raises `FileError`, `TrustError` or `ArchitectureError`, each with a hint.
    """
    from deadrelu.load import open as opening

    return opening.open_model(ModelSpec.of(model, options))


@takes(ModelSpec, DataSpec)
@undisturbed
def scan(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    device: str | None = None,
    device_map: str | None = None,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    feature_axes: Mapping[str, int | None] | None = None,
    max_dead: Share | None = None,
    max_dead_total: Share | None = None,
    max_saturated: Share | None = None,
    limits: Limits = (),
    strict: bool = False,
    definition: Definition | None = None,
    tau: float | None = None,
    policy: Policy | None = None,
    stats: Stats = "full",
    plasticity: bool = False,
    loss: str | Callable[[Any, Any], Any] | None = None,
    label_key: str | None = None,
    initial: nn.Module | str | Path | None = None,
    saturated_below: float = 0.01,
    until: Until | None = None,
    unmatched: Unmatched = "error",
    progress: Callable[[int], None] | None = None,
    ranks: Ranks | None = None,
    invocation: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Report:
    """Run `model` over `data`, count where every activation unit fires, and judge the result.

    A live module comes back as it was. What you give as data goes into the model as it is; files alone are cast to its
    types. Inside a process group of torch.distributed that you have initialised, every process measures what it is
    given, unless you give `ranks`: then they share the work, and each gets the whole report.

    Raises a `DeadreluError` with a hint: `FileError`, `TrustError`, `ArchitectureError`, `DataError`, `ModelError`,
    `UsageError`, or `NothingMeasuredError`.

    `sites`, `skip_sites`: globs over site ids. A glob that matches no site, here or in the policy, is a `UsageError`.
    `feature_axes`: maps such globs to the axis that holds the units, None for a single unit.
    `max_dead`: the gate fails where more of a site's units are dead: `0.05`, `"5%"` or a `Fraction`.
    `limits`: the same for the sites that match a glob: `{"head.*": "20%"}`.
    `max_dead_total`: the same for all units together.
    `max_saturated`: the gate fails where more of a site's units are saturated.
    `strict`: the gate fails on skipped sites and guessed axes too.
    `definition`: limits on dead units count those that are dead by "redo", "nature", "apoz" or "grama" (of a loss).
    `tau`: the threshold of the definition. Default: 0.025, 0.01, 0.9 or 0.01.
    `policy`: all of that, and more, in one.
    `stats`: what is measured: "fired" (which units fired at all), "rates" (how often), or "full" (also maxima, means,
        and everything non-finite).
    `plasticity`: also ranks of each site's outputs and the size of its weights, as papers on the loss of plasticity do.
    `loss`: measures gradients too: "cross_entropy", "mse", "l1", "bce_with_logits", "nll", or a function of the model's
        output and the labels. These come from the data: `y` beside `x`, the last part of a batch.
    `label_key`: which array, key or part of a batch holds the labels.
    `initial`: the model from before training, opened as `model` is: tells dead units that were dead from the start.
    `saturated_below`: a unit whose derivative is at most this at every position, but not exactly 0, is saturated.
    `until`: "verdict" stops as soon as dead units cannot fail the gate any more, "likely" also when they will in all
        likelihood. The report says so.
    `unmatched`: "note" only notes a glob that matches no site.
    `progress`: called with the number of samples seen so far after each batch.
    `ranks`: `deadrelu.measure.distributed.Ranks()`.
    `invocation`: the command line that led here, for the commands that the report prints. Default: made from the
        arguments.
    """
    from deadrelu.measure.losses import read_loss
    from deadrelu.measure.plan import Plan

    shares: dict[str, Any] = {"max_dead": max_dead, "max_dead_total": max_dead_total, "max_saturated": max_saturated}
    policy = policy_of(policy, **shares, limits=limits, strict=strict, definition=definition, tau=tau)
    losses = LossSpec.of(loss, label_key)
    has = {"has_loss": losses.loss is not None, "has_ranks": plasticity, "has_initial": initial is not None}
    check_combination(policy, stats, until, is_shared=ranks is not None, **has)
    device = "one a rank" if ranks is not None and device_map is not None else device
    opening = ModelSpec.of(model, {**options, "device": device, "device_map": device_map})
    source = replace(DataSpec.of(data, options), labelling=losses.labelling)
    plan = Plan(
        sites=tuple(sites),
        skip_sites=tuple(skip_sites),
        feature_axes=feature_axes or {},
        stats=stats,
        plasticity=plasticity,
        saturated_below=saturated_below,
        selectors=policy.selectors,
        unmatched=unmatched,
    )
    settings = _settings(opening, source, losses, plan, policy, invocation) | {"until": until}
    stop = partial(predict_verdict, policy=policy, until=until) if until else None
    found = read_loss(losses.loss, losses.function)
    report = judge(_measured(opening, source, plan, settings, stop, found, progress=progress, ranks=ranks), policy)
    return report if initial is None else _compared(report, replace(opening, model=initial), source, plan)


def _compared(report: Report, opening: ModelSpec, source: DataSpec, plan: Plan) -> Report:
    """The report with what is known of the initial model, on the same data."""
    quick = replace(plan, stats="fired", plasticity=False, selectors=(), unmatched="note")
    first = _measured(opening, source, quick, {}, None, None, progress=None, ranks=None)
    return with_initial(report, first, "a model in memory" if opening.is_live else str(opening.model))


def _measured(
    opening: ModelSpec,
    source: DataSpec,
    plan: Plan,
    settings: Mapping[str, Setting],
    stop: Stop | None,
    loss: Loss | None,
    *,
    progress: Callable[[int], None] | None,
    ranks: Ranks | None,
) -> Report:
    """Open the model and the data, and measure; the report is not judged yet."""
    from deadrelu.data.source import open_data
    from deadrelu.load.open import open_program
    from deadrelu.measure.reporting import report_on

    program, info = open_program(opening)
    every = open_data(source, program)
    batches = every if ranks is None else every.of(ranks.shard)
    how: dict[str, Any] = {"progress": progress, "ranks": ranks, "stop": stop, "loss": loss}
    return report_on(program, info, batches, plan, settings=settings, **how)


def _settings(
    opening: ModelSpec,
    source: DataSpec,
    losses: LossSpec,
    plan: Plan,
    policy: Policy,
    invocation: Sequence[str] | None,
) -> dict[str, Setting]:
    """What the report keeps of the options, and the command line; that is None if something lives in memory."""
    specs = (opening, source, *([losses] if losses.loss is not None else []), plan)
    is_live = opening.is_live or losses.function is not None or not isinstance(source.data, (str, Path, NoneType))
    if invocation is None and not is_live:
        usual, chosen = Policy().to_settings(), policy.to_settings()
        gate = {name.replace("_", "-"): chosen[name] for name in chosen if chosen[name] != usual.get(name)}
        invocation = words_of(
            str(opening.model), {flag: value for spec in specs for flag, value in flags_of(spec).items()} | gate
        )
    words = None if invocation is None else tuple(invocation)
    return {"invocation": words} | {name: value for spec in specs for name, value in settings_of(spec).items()}
