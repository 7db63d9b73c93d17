"""Runs a trial: every arm with every seed, what is known already not twice, and what falls behind no further."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deadrelu.errors import ModelError
from deadrelu.report.trial import CurvePoint
from deadrelu.training.trial.check import Checked
from deadrelu.training.trial.grammar import Arm
from deadrelu.training.trial.job import Job, Outcome
from deadrelu.training.trial.pool import Runner
from deadrelu.training.trial.result import estimates
from deadrelu.training.trial.store import Store


@dataclass
class Standing:
    """How far a trial is, for a live view."""

    arms: tuple[Arm, ...]
    seeds: int
    outcomes: dict[Job, Outcome] = field(default_factory=dict)
    points: dict[Job, CurvePoint] = field(default_factory=dict)
    steps: int = 0
    begun: float = field(default_factory=time.monotonic)
    resumed: int = 0


View = Callable[[Standing], None]


def run_trial(
    checked: Checked,
    seeds: int,
    runner: Runner,
    store: Store,
    *,
    halving: bool = False,
    view: View = lambda _: None,
) -> Mapping[Job, Outcome]:
    """Run every job that the folder has no outcome of. With `halving`, arms that fall behind get no more seeds.

    Raises `ModelError` where the baseline has no run with a result.
    """
    standing = Standing(checked.arms, seeds, steps=checked.setup.recipe.steps or 0)
    jobs = [Job(place, arm, seed) for seed in range(seeds) for place, arm in enumerate(checked.arms)]
    for job in jobs:
        if (known := store.outcome(job)) is not None:
            standing.outcomes[job] = known
    standing.resumed = len(standing.outcomes)
    dropped: set[int] = set()
    for rung in rungs(seeds) if halving else [seeds]:
        waiting = [job for job in jobs if job.seed < rung and job.place not in dropped and job not in standing.outcomes]
        _run(waiting, runner, store, standing, view)
        if halving and rung < seeds:
            dropped |= behind(standing.outcomes, rung, dropped)
    baseline = [outcome for job, outcome in standing.outcomes.items() if job.place == 0]
    if all(outcome.run.failed for outcome in baseline):
        raise ModelError(
            f"no run of {checked.arms[0].name} has a result: {baseline[0].run.failed}",
            hint="mend that first: the other arms are compared with it",
        )
    return standing.outcomes


def _run(jobs: Sequence[Job], runner: Runner, store: Store, standing: Standing, view: View) -> None:
    """Run these jobs, and keep what they give."""

    def tick() -> None:
        for job in jobs:
            if job not in standing.outcomes and (point := store.now(job)) is not None:
                standing.points[job] = point
        view(standing)

    for job, outcome in runner.run(jobs, tick):
        if not outcome.is_lost:
            store.keep(job, outcome)
        standing.outcomes[job] = outcome
        standing.points.pop(job, None)
        view(standing)


def rungs(seeds: int) -> list[int]:
    """How many seeds the arms have had when the next are dropped: at least 2, then twice as many each time."""
    found = [max(2, math.ceil(seeds / 4))]
    while found[-1] * 2 < seeds:
        found.append(found[-1] * 2)
    return [rung for rung in found if rung < seeds] + [seeds]


def behind(outcomes: Mapping[Job, Outcome], rung: int, dropped: set[int]) -> set[int]:
    """The arms to drop after so many seeds: of the lower half those that are not ahead of the baseline."""
    first = {job: outcome for job, outcome in outcomes.items() if job.seed < rung}
    ahead = sorted((value, place) for place, value in estimates(first).items() if place not in dropped)
    return {place for value, place in ahead[: (len(ahead) + 1) // 2] if value <= 0}
