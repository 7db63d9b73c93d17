"""From outcomes to a trial: when each run reached the target, and what is certain of each arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from deadrelu.activations import REPLACEMENTS
from deadrelu.report import Setting, Tool
from deadrelu.report.trial import ArmResult, Metric, Trial, TrialRun
from deadrelu.training.trial.check import Checked
from deadrelu.training.trial.grammar import SLOPED, Arm, new_activation
from deadrelu.training.trial.job import Job, Outcome
from deadrelu.training.trial.paired import Spread, judge_arms, spread_of

BY_SEED_AND = (
    "Student's t of the mean difference over seeds and validation {unit}s, both random (crossed two-way layout),"
    " with Holm's correction over the arms"
)
BY_SEED = "Student's t of the mean difference over the seeds, paired by seed, with Holm's correction over the arms"


def result_of(
    checked: Checked,
    outcomes: Mapping[Job, Outcome],
    tool: Tool,
    settings: Mapping[str, Setting],
    *,
    seconds: float,
) -> Trial:
    """The trial of these outcomes, of which the baseline has at least one with a result."""
    metric = _metric(outcomes)
    sign = 1 if metric.higher_is_better else -1
    spreads = _spreads(outcomes, len(checked.arms), sign)
    judged = [("baseline", None), *judge_arms(spreads[1:], sign)]
    target = {job.seed: _best(outcome.run, sign) for job, outcome in outcomes.items() if job.place == 0}
    arms = []
    for place, arm in enumerate(checked.arms):
        found = {job.seed: outcome.run for job, outcome in outcomes.items() if job.place == place}
        verdict, difference = judged[place]
        arms.append(
            ArmResult(
                name=arm.name,
                recipe=arm.recipe,
                verdict=verdict,
                difference=difference,
                runs=tuple(_reached(found[seed], target.get(seed), sign) for seed in sorted(found)),
                dropped_after=len(found) if len(found) < _seeds(outcomes) else None,
            )
        )
    better = [arm for arm in arms if arm.verdict == "better" and arm.difference]
    best = max(better, key=lambda arm: sign * arm.difference.estimate if arm.difference else 0.0, default=None)
    return Trial(
        tool=tool,
        model=checked.info,
        data=checked.data,
        settings=settings,
        metric=metric,
        arms=tuple(arms),
        winner=None if best is None else best.name,
        notes=checked.notes,
        seconds=seconds,
    )


def estimates(outcomes: Mapping[Job, Outcome]) -> dict[int, float]:
    """How far each arm is ahead of the baseline so far, by place; what has no result is infinitely behind."""
    sign = 1 if _metric(outcomes).higher_is_better else -1
    spreads = _spreads(outcomes, 1 + max(job.place for job in outcomes), sign)
    return {
        place: -math.inf if spread is None else sign * spread.estimate for place, spread in enumerate(spreads) if place
    }


def patch_options(arm: Arm) -> tuple[str, ...] | None:
    """The options of `deadrelu patch` that make this arm of a saved model; None where it cannot."""
    to = new_activation(arm)
    if {change.kind for change in arm.changes} - {"activation", "reinit"} or not arm.changes:
        return None
    if to is not None and to not in REPLACEMENTS:
        return None
    slope = arm.value("activation")
    swap = ("--with=keep",) if to is None else ("--site=all", f"--with={to}")
    sloped = (f"--slope={slope:g}",) if to in SLOPED and isinstance(slope, float) else ()
    return (*swap, *sloped, *(("--reinit",) if arm.has("reinit") else ()))


def _spreads(outcomes: Mapping[Job, Outcome], arms: int, sign: int) -> list[Spread | None]:
    """The differences to the baseline, by place."""
    finished = {job: outcome for job, outcome in outcomes.items() if outcome.run.failed is None}
    values = [score for outcome in finished.values() for score in outcome.scores if math.isfinite(score)]
    # A loss that is not finite is worse than every other, but no number: it counts as the worst that was seen.
    worst = (min if sign > 0 else max)(values, default=0.0)
    by_arm: list[dict[int, Sequence[float]]] = [{} for _ in range(arms)]
    for job, outcome in finished.items():
        by_arm[job.place][job.seed] = [score if math.isfinite(score) else worst for score in outcome.scores]
    return [spread_of(scores, by_arm[0], sign) for scores in by_arm]


def _metric(outcomes: Mapping[Job, Outcome]) -> Metric:
    """What the arms are compared by."""
    first = next((outcome for outcome in outcomes.values() if outcome.run.failed is None), None)
    is_accuracy, unit = (first.is_accuracy, first.unit) if first else (False, None)
    method = BY_SEED if unit is None else BY_SEED_AND.format(unit=unit)
    name = "accuracy" if is_accuracy else "loss"
    return Metric(name=name, higher_is_better=is_accuracy, method=method, unit=unit)


def _seeds(outcomes: Mapping[Job, Outcome]) -> int:
    """How many seeds the baseline has."""
    return sum(job.place == 0 for job in outcomes)


def _best(run: TrialRun, sign: int) -> float | None:
    """The best validation metric on the way."""
    return max((point.metric for point in run.curve if point.metric is not None), key=lambda m: sign * m, default=None)


def _reached(run: TrialRun, target: float | None, sign: int) -> TrialRun:
    """The run with when it reached the target, as seen at the points of its curve."""
    if target is None:
        return run
    step = next(
        (point.step for point in run.curve if point.metric is not None and sign * (point.metric - target) >= 0), None
    )
    seconds = None if step is None else run.seconds * step / run.steps if run.steps else 0.0
    return replace(run, steps_to_target=step, seconds_to_target=seconds)
