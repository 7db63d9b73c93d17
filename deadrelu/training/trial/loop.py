"""The training loop that arms share: one optimiser, a curve of what was seen on the way, and an end if it diverges."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deadrelu.errors import ModelError, NothingMeasuredError
from deadrelu.measure.losses import Loss
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import site_stats
from deadrelu.measure.scan import measure
from deadrelu.programs.code import users_code
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import to_device
from deadrelu.report.trial import CurvePoint
from deadrelu.training.trial.evaluation import Evaluation, evaluate
from deadrelu.training.trial.recipe import Recipe

OnPoint = Callable[[CurvePoint], None]


@dataclass
class TrainingRecord:
    """What was seen of a run: its curve, its norms, the evaluation at the end, and where it diverged if it did."""

    curve: list[CurvePoint] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    diverged: int | None = None
    final: Evaluation | None = None


@dataclass(frozen=True)
class Shares:
    """Dead and saturated units as shares (0..1) of all units; None where the model has no site."""

    dead: float | None
    saturated: float | None


def train(
    program: EagerProgram,
    stream: Iterable[Batch],
    recipe: Recipe,
    loss: Loss,
    val: Sequence[Batch],
    *,
    clip: float | None,
    on_point: OnPoint = lambda _: None,
) -> TrainingRecord:
    """Train the program's module in place for `recipe.steps` steps.

    A loss that is not finite ends the run: it diverged there. Raises `ModelError` where the model or the loss raises.
    """
    assert recipe.steps is not None
    module = program.module
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("no parameter of the model takes a gradient", hint="look for requires_grad_(False)")
    optimizer, scheduler = _optimizer(parameters, recipe)
    device = program.device or parameters[0].device
    course, seen = TrainingRecord(), RunningMeans()
    look(program, val, loss, course, seen, on_point)
    module.train()
    for step, batch in zip(range(1, recipe.steps + 1), stream, strict=False):
        begun = time.perf_counter()
        value, right, norm = _step(module, batch, loss, optimizer, parameters, clip, device)
        scheduler.step()
        course.seconds += time.perf_counter() - begun
        course.steps = step
        if not math.isfinite(value):
            course.diverged = step
            look(program, val, loss, course, seen, on_point)
            break
        seen.add(value, right, norm)
        course.norms.append(norm)
        if step % recipe.every == 0 or step == recipe.steps:
            look(program, val, loss, course, seen, on_point)
            module.train()
    return course


def shares_of(program: EagerProgram, batches: Sequence[Batch]) -> Shares:
    """The dead and the saturated share of all units on these batches."""
    plan = Plan(stats="fired", unmatched="note")
    try:
        stats = site_stats(measure(program, batches, plan), plan)
    except NothingMeasuredError:
        return Shares(None, None)
    units = sum(each.site.units for each in stats)
    if not units:
        return Shares(None, None)
    return Shares(sum(s.dead for s in stats) / units, sum(s.saturated for s in stats) / units)


@dataclass
class RunningMeans:
    """The training steps since the last point of the curve."""

    losses: list[float] = field(default_factory=list)
    right: list[tuple[int, int]] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def add(self, value: float, right: tuple[int, int], norm: float | None) -> None:
        """Add a step; `right` predictions out of how many."""
        self.losses.append(value)
        self.right.append(right)
        if norm is not None:
            self.norms.append(norm)

    def clear(self) -> None:
        """Begin again."""
        self.losses, self.right, self.norms = [], [], []


def look(
    program: EagerProgram,
    val: Sequence[Batch],
    loss: Loss,
    course: TrainingRecord,
    seen: RunningMeans,
    on_point: OnPoint,
) -> None:
    """Add a point to the curve: evaluate, and count dead units."""
    course.final = found = evaluate(program, val, loss)
    shares = shares_of(program, val)
    predictions = sum(of for _, of in seen.right)
    point = CurvePoint(
        step=course.steps,
        train_loss=statistics.fmean(seen.losses) if seen.losses else None,
        loss=_finite(found.loss),
        metric=_finite(found.metric),
        train_metric=sum(right for right, _ in seen.right) / predictions if predictions else None,
        dead_fraction=shares.dead,
        saturated_fraction=shares.saturated,
        gradient_norm=_finite(statistics.median(seen.norms)) if seen.norms else None,
    )
    seen.clear()
    course.curve.append(point)
    on_point(point)


def _step(
    module: nn.Module,
    batch: Batch,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    clip: float | None,
    device: torch.device,
) -> tuple[float, tuple[int, int], float]:
    """One step: the loss, right predictions and how many there were, and the norm of the gradient before clipping.

    Where the loss is not finite no step is made.
    """

    def failed(why: str) -> ModelError:
        return ModelError(f"the model raised while it was trained: {why}", hint="look at its forward in training mode")

    args, kwargs, labels = to_device((batch.args, batch.kwargs, batch.labels), device)
    optimizer.zero_grad(set_to_none=True)
    with torch.enable_grad():
        with users_code(failed), stdout_on_stderr(), in_users_folder():
            output = module(*args, **kwargs)
        value, right = loss.compute(output, labels)
        number = float(value.detach())
        if not math.isfinite(number):
            return number, right, math.nan
        with users_code(failed):
            value.backward()
    norm = nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
    optimizer.step()
    return number, right, float(norm)


def _optimizer(
    parameters: Sequence[Tensor], recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser and its schedule."""
    rate, decay = recipe.lr, recipe.weight_decay
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9)
    elif recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    steps = recipe.steps or 1
    if recipe.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
