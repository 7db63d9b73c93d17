"""One job of a trial: one arm, trained with one seed. All that it needs can be sent to another process."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from deadrelu.data.spec import DataSpec, LossSpec
from deadrelu.errors import DeadreluError, ModelError, UsageError
from deadrelu.files.writing import replacing
from deadrelu.judge.gradients import summarise
from deadrelu.load.open import open_program
from deadrelu.load.spec import ModelSpec
from deadrelu.measure.losses import Loss, read_loss
from deadrelu.measure.plan import Plan
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.process_state import restore_process_state
from deadrelu.programs.program import Batch
from deadrelu.programs.rng import seeded
from deadrelu.report import ModelInfo
from deadrelu.report.trial import CurvePoint, TrialRun, run_from_dict
from deadrelu.training.trial.alter import alter
from deadrelu.training.trial.evaluation import Evaluation, evaluate
from deadrelu.training.trial.grammar import AUTO, Arm
from deadrelu.training.trial.lightning import train_by_lightning
from deadrelu.training.trial.loop import OnPoint, TrainingRecord, shares_of, train
from deadrelu.training.trial.own import Trainer, train_by_own
from deadrelu.training.trial.recipe import LIGHTNING, MOST_TO_MEASURE, OF_LIGHTNING, Recipe
from deadrelu.training.trial.samples import Samples, open_samples


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all jobs of a trial share: the model, the data, the loss, the recipe, and how many threads one may use.

    `trainer` is the user's own training, `FILE.py:fn` or a function in memory, or "lightning"; None is ours. The user's
    function knows its training data: `train` may be None then.
    """

    model: ModelSpec
    train: DataSpec | None
    val: DataSpec | None
    loss: LossSpec
    recipe: Recipe
    plan: Plan = field(default_factory=Plan)
    trainer: str | Trainer | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Raise `UsageError` for what the trainer cannot do."""
        if self.train is None and self.trainer is None:
            raise UsageError(
                "a trial needs labelled data to train on", hint="give --data FILE, and --val FILE if you can"
            )
        if self.val is None and (self.is_own or self.train is None):
            raise UsageError("--train needs validation data: deadrelu cannot hold out any", hint="give --val FILE")
        unused = [f.name for f in fields(Recipe) if f.name not in self.of_the_recipe]
        for name in unused:
            if getattr(self.recipe, name) != getattr(Recipe(), name):
                flag = "--" + name.replace("_", "-")
                whose = "your function" if self.is_own else "the LightningModule"
                raise UsageError(f"{flag} has no effect: {whose} decides that", hint=f"leave {flag} out")

    @property
    def is_own(self) -> bool:
        """Whether a function of the user's trains."""
        return self.trainer not in (None, LIGHTNING)

    @property
    def of_the_recipe(self) -> tuple[str, ...]:
        """The names of the fields of the recipe that the trainer follows."""
        if self.is_own:
            return ()
        return OF_LIGHTNING if self.trainer == LIGHTNING else tuple(f.name for f in fields(Recipe))


@dataclass(frozen=True)
class Job:
    """One arm with one seed. `place` is that of the arm in the trial."""

    place: int
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """A name that is safe in a file system."""
        return f"{self.place:02d}-{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its run, and the scores by which it is paired with others.

    `is_lost`: its process died, so that the same job may end well another time.
    """

    run: TrialRun
    scores: tuple[float, ...] = ()
    unit: Literal["sample", "batch"] | None = None
    is_accuracy: bool = False
    is_lost: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Read back what `to_dict` returned."""
        return cls(**{**data, "run": run_from_dict(data["run"]), "scores": tuple(data["scores"])})

    @classmethod
    def failed(cls, seed: int, why: str, *, is_lost: bool = False) -> Outcome:
        """A run without a result, with the reason."""
        return cls(TrialRun(seed=seed, failed=why), is_lost=is_lost)


@dataclass(frozen=True)
class Prepared:
    """A model and its data, ready to be trained: `loss` is how it is judged, too."""

    program: EagerProgram
    info: ModelInfo
    samples: Samples
    loss: Loss


def prepare(setup: Setup, seed: int) -> Prepared:
    """Open the model with the initial weights of this seed, and the data. Raises what opening raises."""
    opened, info = open_program(replace(setup.model, initial_seed=seed))
    if not isinstance(opened, EagerProgram):
        raise UsageError(
            f"{info.path} is a graph, which is made to be run and not to be trained",
            hint="give the eager model, or the code that it came from",
        )
    program = EagerProgram(
        copy.deepcopy(opened.module), opened.device
    )  # the user's own, and what an import keeps, stay
    loss = read_loss(setup.loss.loss, setup.loss.function)
    if loss is None:
        raise UsageError("a trial needs a loss", hint="for example --loss cross_entropy")
    return Prepared(program, info, open_samples(setup.train, setup.val, program), loss)


def run_job(setup: Setup, job: Job, *, on_point: OnPoint = lambda _: None, keep: Path | None = None) -> Outcome:
    """Train one arm with one seed, and judge it. `keep` is where the trained model is written.

    What goes wrong in this arm alone is a failed run, not an error.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        with restore_process_state():
            return _run(setup, job, on_point, keep)
    except DeadreluError as error:
        return Outcome.failed(job.seed, error.message)
    finally:
        torch.set_num_threads(threads)


def _run(setup: Setup, job: Job, on_point: OnPoint, keep: Path | None) -> Outcome:
    ready = prepare(setup, job.seed)
    program, samples, loss = ready.program, ready.samples, ready.loss
    measured = samples.some(MOST_TO_MEASURE)
    alter(program, job.arm, job.seed, measured, setup.plan)
    recipe = setup.recipe.of(job.arm)
    clip = clip_value(program, measured, loss) if recipe.clip == AUTO else recipe.clip
    device = program.device or torch.device("cpu")
    with seeded(device, job.seed):  # dropout draws the same for every arm
        course = _trained(setup, recipe, job.seed, ready, None if clip is None else float(clip), on_point)
    if keep is not None:
        program.module.eval()
        with replacing(keep, force=True) as temporary:
            program.save(temporary, force=True)
    trained = None if setup.train is None else evaluate(program, measured, loss)
    return _outcome(job.seed, course, trained, program, samples)


def _trained(
    setup: Setup, recipe: Recipe, seed: int, ready: Prepared, clip: float | None, on_point: OnPoint
) -> TrainingRecord:
    """Train by whoever is to train."""
    program, samples, loss = ready.program, ready.samples, ready.loss
    stream = None if setup.train is None else samples.stream(setup.train, program, seed)
    if setup.trainer == LIGHTNING:
        return train_by_lightning(program, stream, recipe, loss, samples.val, clip=clip, on_point=on_point)
    if setup.trainer is not None:
        return train_by_own(setup.trainer, program, samples, loss, seed, on_point=on_point)
    assert stream is not None
    return train(program, stream, recipe, loss, samples.val, clip=clip, on_point=on_point)


def clip_value(program: EagerProgram, batches: Sequence[Batch], loss: Loss) -> float:
    """The 95th percentile of the norms of the gradient before the first step. Raises `ModelError` without one."""
    measurement = measure(program, batches, Plan(stats="fired", unmatched="note"), loss=loss)
    assert measurement.loss is not None
    clip = summarise(measurement.loss, []).clip
    if clip is None:
        raise ModelError("the norm of the gradient before the first step is not a number", hint="give clip a number")
    return clip


def _outcome(
    seed: int, course: TrainingRecord, trained: Evaluation | None, program: EagerProgram, samples: Samples
) -> Outcome:
    """The run in figures."""
    final = course.final
    assert final is not None
    shares = shares_of(program, samples.val)
    last = course.curve[-1] if course.curve else CurvePoint(step=0, train_loss=None, loss=None, metric=None)
    run = TrialRun(
        seed=seed,
        metric=last.metric,
        loss=last.loss,
        train_metric=None if trained is None else trained.metric,
        train_loss=None if trained is None else trained.loss,
        dead_fraction=shares.dead,
        saturated_fraction=shares.saturated,
        gradient_norm_median=statistics.median(course.norms) if course.norms else None,
        gradient_norm_max=max(course.norms, default=None),
        steps=course.steps,
        seconds=course.seconds,
        diverged=course.diverged,
        curve=tuple(course.curve),
    )
    return Outcome(run, final.scores, final.unit, final.is_accuracy)
