"""Trains a LightningModule by Lightning's own Trainer: its `training_step`, its optimizers, its hooks."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.errors import ModelError, UsageError
from deadrelu.load.extras import extra
from deadrelu.measure.losses import Loss
from deadrelu.programs.code import users_code
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr
from deadrelu.programs.program import Batch
from deadrelu.training.trial.loop import OnPoint, RunningMeans, TrainingRecord, look
from deadrelu.training.trial.recipe import Recipe

_PACKAGE = "pytorch_lightning"


def batches_of_an_epoch(module: nn.Module, *, has_data: bool) -> int:
    """How many batches the module's own `train_dataloader` gives; 1 where it `has_data` of ours instead.

    Raises `UsageError` where the module is not a LightningModule or has no such loader, `ArchitectureError` without
    Lightning.
    """
    name = type(module).__name__
    if not isinstance(module, extra(_PACKAGE).LightningModule):
        raise UsageError(f"{name} is not a LightningModule", hint="leave --train out, or give your LightningModule")
    if has_data:
        return 1

    def failed(why: str) -> UsageError:
        return UsageError(
            f"{name} has no train_dataloader of known length: {why}", hint="give the training data: --data"
        )

    with users_code(failed), stdout_on_stderr(), in_users_folder():
        return len(module.train_dataloader())


def train_by_lightning(
    program: EagerProgram,
    stream: Iterable[Batch] | None,
    recipe: Recipe,
    loss: Loss,
    val: Sequence[Batch],
    *,
    clip: float | None,
    on_point: OnPoint = lambda _: None,
) -> TrainingRecord:
    """Let the Trainer fit the program's module in place for `recipe.steps` optimizer steps.

    A batch of `stream` is what a loader would give: `(inputs, labels)`, or a mapping where there are several inputs;
    None leaves the data to the module. A loss that is not finite ends the run before its step. Raises `ModelError`
    where the module raises or gives no loss.
    """
    module = program.module
    name = type(module).__name__

    def failed(why: str) -> ModelError:
        return ModelError(f"{name} raised in Trainer.fit: {why}", hint="call Trainer.fit by yourself to see all of it")

    record, window = TrainingRecord(), RunningMeans()

    def point() -> None:
        look(program, val, loss, record, window, on_point)

    point()
    module.train()
    watch = type("Watch", (_Watch, extra(_PACKAGE).Callback), {})(record, window, recipe, point)
    with users_code(failed), stdout_on_stderr(), in_users_folder(), _quietly(), TemporaryDirectory() as folder:
        try:
            trainer = _trainer(program, recipe, clip, folder, watch)
            trainer.fit(module, train_dataloaders=None if stream is None else _Loader(stream))
        except _NotFiniteError:
            record.diverged = record.steps + 1
    if not watch.has_loss and record.diverged is None:
        raise ModelError(f"the training_step of {name} returns no loss", hint="return the loss, or {'loss': loss}")
    if record.curve[-1].step != record.steps or record.diverged is not None:
        point()
    return record


def _trainer(program: EagerProgram, recipe: Recipe, clip: float | None, folder: str, watch: Any) -> Any:
    """A Trainer that writes nothing, says nothing, and uses the device of the program."""
    device = program.device or torch.device("cpu")
    return extra(_PACKAGE).Trainer(
        max_steps=recipe.steps,
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        gradient_clip_val=clip,
        callbacks=[watch],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _NotFiniteError(Exception):
    """The loss is not finite."""


@dataclass(frozen=True)
class _Loader:
    """Our batches as a loader of the user's would give them."""

    stream: Iterable[Batch]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.stream:
            inputs = (*batch.args, *batch.kwargs.values())
            yield {**batch.kwargs, "labels": batch.labels} if len(batch.kwargs) > 1 else (*inputs, batch.labels)


class _Watch:
    """The hooks of a callback: notes each step's loss and its gradient before clipping.

    `point` is called as often as our own loop looks at a model.
    """

    def __init__(self, record: TrainingRecord, window: RunningMeans, recipe: Recipe, point: Any) -> None:
        self._record, self._window, self._recipe, self._point = record, window, recipe, point
        self._begun = time.perf_counter()
        self._norm: float | None = None
        self.has_loss = False

    def on_train_batch_start(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def on_before_backward(self, _trainer: Any, _module: Any, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            raise _NotFiniteError
        self.has_loss = True

    def on_before_optimizer_step(self, _trainer: Any, module: nn.Module, *_: Any) -> None:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        self._norm = float(nn.utils.get_total_norm(gradients)) if gradients else None

    def on_train_batch_end(self, trainer: Any, module: nn.Module, outputs: Any, *_: Any) -> None:
        record, before = self._record, self._record.steps
        record.seconds += time.perf_counter() - self._begun
        record.steps = trainer.global_step
        value = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(value, Tensor):
            self._window.add(float(value.detach()), (0, 0), self._norm)
        if self._norm is not None:
            record.norms.append(self._norm)
        self._norm = None
        if record.steps // self._recipe.every > before // self._recipe.every:
            self._point()
            module.train()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Lightning's advice on loggers, workers and devices, which are not the user's choice here."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
