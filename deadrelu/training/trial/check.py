"""Checks the question of a trial before anything is trained: opens everything once, and makes each arm once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from deadrelu.data.batches import Batches
from deadrelu.errors import ModelError, UsageError
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.measure.reporting import report_on
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.report import DataInfo, ModelInfo
from deadrelu.report.trial import TrialData
from deadrelu.training.trial.alter import alter
from deadrelu.training.trial.auto import suggested_arms
from deadrelu.training.trial.evaluation import check_labels, evaluate
from deadrelu.training.trial.grammar import Arm
from deadrelu.training.trial.job import Prepared, Setup, prepare
from deadrelu.training.trial.lightning import batches_of_an_epoch
from deadrelu.training.trial.own import read_trainer
from deadrelu.training.trial.recipe import LIGHTNING, MOST_TO_MEASURE, OF_THE_TRAINING, Recipe


@dataclass(frozen=True)
class Checked:
    """A question that can be asked: the arms that can be made, and what is known of the model and the data."""

    setup: Setup
    arms: tuple[Arm, ...]
    info: ModelInfo
    data: TrialData
    notes: tuple[str, ...] = ()


def check_trial(setup: Setup, arms: tuple[Arm, ...] | None) -> Checked:
    """Open everything once, and make each arm once, before anything is trained.

    Without `arms` those that a scan suggests are taken, but for what cannot be made. Raises what opening raises,
    `DataError` for labels that cannot tell arms apart, `ModelError` for a loss that is not finite before the first
    step, and `UsageError` for an arm that cannot be made.
    """
    ready = prepare(setup, 0)
    recipe = _recipe(setup, ready)
    found = evaluate(ready.program, ready.samples.val, ready.loss)
    check_labels(ready.samples.val, found.is_accuracy)
    if not math.isfinite(found.loss):
        raise ModelError(
            f"the loss on the validation data is {found.loss} before the first step",
            hint="look for NaN in the data, in the labels and in the weights: `deadrelu scan` shows where",
        )
    chosen = arms or _suggested(ready)
    refused = {arm: error for arm in chosen if (error := _why_not(ready, setup, arm)) is not None}
    left = tuple(arm for arm in chosen if arm not in refused)
    if refused and (arms is not None or len(left) == 1):
        raise next(iter(refused.values()))
    notes = (*_notes_on(refused), *_notes_on_data(ready))
    return Checked(replace(setup, recipe=recipe), left, ready.info, ready.samples.data, notes)


def _recipe(setup: Setup, ready: Prepared) -> Recipe:
    """The recipe, for a number of steps unless the user's function decides that.

    Raises `UsageError` where there is no such trainer.
    """
    if setup.trainer is not None and setup.is_own:
        read_trainer(setup.trainer)
        return setup.recipe
    epoch = ready.samples.epoch
    if setup.trainer == LIGHTNING:
        epoch *= batches_of_an_epoch(ready.program.module, has_data=setup.train is not None)
    return setup.recipe.lasting(epoch)


def _suggested(ready: Prepared) -> tuple[Arm, ...]:
    """The arms by the advice on a scan of the training data."""
    info = DataInfo(source=None, kind="dataset", samples=0, batches=0, seed=None)
    batches = Batches.held(ready.samples.some(MOST_TO_MEASURE), info)
    return suggested_arms(judge(report_on(ready.program, ready.info, batches, loss=ready.loss), Policy()))


def _why_not(ready: Prepared, setup: Setup, arm: Arm) -> UsageError | None:
    """The error where an arm cannot be made of this model."""
    of_training = [change for change in arm.changes if change.kind in OF_THE_TRAINING]
    unused = [change.word for change in of_training if change.kind not in setup.of_the_recipe]
    if unused:
        whose = "your own function" if setup.is_own else "that of the LightningModule"
        return UsageError(f"the arm {arm.name} changes the training, which is {whose}", hint=f"leave {unused[0]} out")
    program = EagerProgram(copy.deepcopy(ready.program.module), ready.program.device)
    try:
        alter(program, arm, 0, ready.samples.some(MOST_TO_MEASURE), setup.plan)
    except UsageError as error:
        return error
    return None


def _notes_on(refused: Mapping[Arm, UsageError]) -> Iterator[str]:
    """A note on each reason for which suggested arms were left out."""
    by_reason: dict[str, list[str]] = {}
    for arm, error in refused.items():
        by_reason.setdefault(error.message.rpartition("cannot be made: ")[2], []).append(arm.name)
    for reason, names in by_reason.items():
        yield f"left out, because it cannot be made of this model: {', '.join(names)} ({reason})"


def _notes_on_data(ready: Prepared) -> Iterator[str]:
    """A note where a saved model may have been trained on what was held out."""
    if ready.samples.data.held_out and ready.info.format != "architecture":
        yield (
            "if the model was trained on these data before, the samples held out are not new to it, and all arms look"
            " better than they are: give data that it has not seen with --val"
        )
