"""Trains by the user's own function: `fn(model, seed)` trains the model in place, and yields or returns metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from deadrelu.errors import ModelError, UsageError
from deadrelu.measure.losses import Loss
from deadrelu.programs.code import import_spec, users_code
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr
from deadrelu.training.trial.loop import OnPoint, RunningMeans, TrainingRecord, look
from deadrelu.training.trial.samples import Samples

Trainer = Callable[..., Any]
"""`fn(model, seed)`."""

_EXAMPLE = "return {'loss': loss}, or yield that once an epoch"


def read_trainer(given: str | Trainer) -> tuple[str, Trainer]:
    """The function of this name, and the name. Raises `UsageError` if there is no such function."""
    if callable(given):
        return getattr(given, "__name__", type(given).__name__), given
    module, found = import_spec(given, error=UsageError)
    if found is None or not callable(found):
        raise UsageError(f"{given} is not a function (in {module.__name__})", hint="give --train FILE.py:fn")
    return given, found


def train_by_own(
    given: str | Trainer, program: EagerProgram, samples: Samples, loss: Loss, seed: int, *, on_point: OnPoint
) -> TrainingRecord:
    """Call the function, and look at the model whenever it yields and when it ends.

    Raises `ModelError` where it raises, gives no metrics, or leaves the model as it was.
    """
    name, train = read_trainer(given)
    module, course, window = program.module, TrainingRecord(), RunningMeans()
    first = seen = _copied(module)
    look(program, samples.val, loss, course, window, on_point)

    def failed(why: str) -> ModelError:
        return ModelError(f"{name} raised: {why}", hint=f"call {name}(model, {seed}) by yourself to see all of it")

    module.train()
    metrics = _metrics(train, module, seed, name)
    begun, wanted = time.perf_counter(), True
    while wanted:
        with users_code(failed), stdout_on_stderr(), in_users_folder(), torch.enable_grad():
            found = next(metrics, None)
        course.seconds += time.perf_counter() - begun
        wanted = found is not None
        if found is not None:
            course.steps = int(found.get("step", course.steps + 1))
            value = found.get("train_loss", found.get("loss"))
            if value is not None and not math.isfinite(value):
                course.diverged, wanted = course.steps, False
            elif value is not None:
                window.add(value, (0, 0), None)
            was_training = module.training
            look(program, samples.val, loss, course, window, on_point)
            module.train(was_training)
            seen = _copied(module)
        begun = time.perf_counter()
    if course.steps == 0:
        raise ModelError(f"{name} gives no metrics", hint=_EXAMPLE)
    if not _same(seen, module):  # it went on after what it yielded last
        look(program, samples.val, loss, course, window, on_point)
    if _same(first, module):
        raise ModelError(
            f"{name} left the model as it was, as if it had trained a copy",
            hint="train the model that it is given, in place",
        )
    return course


def _metrics(train: Trainer, module: nn.Module, seed: int, name: str) -> Iterator[dict[str, float]]:
    """What the function yields or returns, one after another."""
    made = train(module, seed)
    if hasattr(made, "__next__"):
        for each in made:
            yield _read(each, name)
    elif made is not None:
        yield _read(made, name)


def _read(given: object, name: str) -> dict[str, float]:
    """Metrics as numbers by name; a number alone is the loss."""
    pairs: Mapping[Any, Any] = given if isinstance(given, Mapping) else {"loss": given}
    try:
        return {str(key): float(value) for key, value in pairs.items()}
    except (TypeError, ValueError) as error:
        shown = type(given).__name__
        raise ModelError(f"{name} gives a {shown}, and not a number or a mapping of numbers", hint=_EXAMPLE) from error


def _copied(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in (*module.parameters(), *module.buffers())]


def _same(tensors: list[torch.Tensor], module: nn.Module) -> bool:
    """Whether these are the tensors of the module; if not even the shapes agree, they are not."""
    now = _copied(module)
    return len(tensors) == len(now) and all(torch.equal(old, new) for old, new in zip(tensors, now, strict=True))
