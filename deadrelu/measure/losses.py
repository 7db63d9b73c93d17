"""The losses by which gradients are measured: torch's own by name, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.errors import DataError, ModelError, UsageError
from deadrelu.programs.code import import_spec, is_import_spec, users_code
from deadrelu.programs.process_state import stdout_on_stderr
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.text.spelling import did_you_mean
from deadrelu.text.wording import count

Function = Callable[[Any, Any], Any]

LOSSES: Mapping[str, Function] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "nll": F.nll_loss,
}
"""The losses that go by name, each with the mean as its reduction."""

OF_CLASSES = ("cross_entropy", "nll")
"""The losses whose labels are classes."""

_OUTPUTS = ("logits", "out", "output", "prediction")
IGNORED = -100
"""The label that torch's losses of classes leave out."""


@dataclass(frozen=True)
class Loss:
    """A loss function of the model's output and the labels, and its name."""

    name: str
    function: Function

    @property
    def is_own(self) -> bool:
        """Whether it is the user's: then it gets the output as the model returns it."""
        return self.function is not LOSSES.get(self.name)

    def compute(self, output: Any, labels: Any) -> tuple[Tensor, tuple[int, int]]:
        """The loss of one batch, as one number with a graph; and how many predictions are right, out of how many.

        Raises `ModelError` where the function raises, or where its result has no gradient; `DataError` where labels do
        not fit the output.
        """
        if not self.is_own:
            output = chosen_output(output, self.name)
            output, labels = fitted(output, labels, self.name)

        def failed(why: str) -> ModelError:
            shapes = ", ".join(str(tuple(x.shape)) for x in tensor_leaves((output, labels)))
            return ModelError(f"the loss {self.name} raised on {shapes}: {why}", hint="look at the labels and the loss")

        with users_code(failed), stdout_on_stderr():
            value = self.function(output, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            given = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelError(f"the loss {self.name} returns {given}, not one number", hint="reduce it, as by .mean()")
        if not value.requires_grad:
            raise ModelError(
                f"the loss {self.name} has no gradient: its value does not depend on a parameter by way of autograd",
                hint="look for torch.no_grad, .detach(), .item() or numpy in the model and in the loss",
            )
        return value, right_classes(output, labels, self.name)


def read_loss(given: str | None, function: Function | None = None) -> Loss | None:
    """The loss of this name, or in this code (`file.py:function`); or the function itself. Raises `UsageError`."""
    if given is None:
        return None
    if function is not None:
        return Loss(given, function)
    if given in LOSSES:
        return Loss(given, LOSSES[given])
    if not is_import_spec(given):
        raise UsageError(
            f"there is no loss {given!r}",
            hint=f"{did_you_mean(given, LOSSES) or ''} give {', '.join(LOSSES)}, or code as file.py:function".strip(),
        )
    module, found = import_spec(given, error=UsageError)
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        found = found()
    if found is None or not callable(found):
        raise UsageError(
            f"{given} is not a function of output and labels (in {module.__name__})", hint="give file.py:function"
        )
    return Loss(given, found)


def chosen_output(output: Any, loss: str) -> Tensor:
    """The tensor of a model's output that one of torch's losses compares with the labels.

    That is the output itself, its only tensor, what it calls `logits`, `out`, `output` or `prediction`, or the first of
    a tuple. Raises `ModelError` where it is not clear.
    """
    if isinstance(output, Tensor):
        return output
    tensors = list(tensor_leaves(output))
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    for name in _OUTPUTS:
        if isinstance(found := named.get(name), Tensor):
            return found
    if len(tensors) == 1 or (tensors and isinstance(output, tuple | list) and isinstance(output[0], Tensor)):
        return tensors[0]
    held = f" of {count(len(tensors), 'tensor')}" if tensors else ""
    raise ModelError(
        f"the model returns a {type(output).__name__}{held}: {loss} cannot tell which to compare with the labels",
        hint="write the loss as a function of output and labels: --loss file.py:function",
    )


def fitted(output: Tensor, labels: Any, loss: str) -> tuple[Tensor, Tensor]:
    """The output and the labels as one of torch's losses takes them.

    Classes that come last, as `(N, T, C)` for labels `(N, T)`, are moved to axis 1. Labels of classes become integers,
    the others are cast to the type of the output. An axis of one is added or left out, where the labels are otherwise
    of the output's shape: torch would broadcast `(N,)` against `(N, 1)`. Raises `DataError` where they do not fit.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"{loss} needs labels in one tensor, not a {type(labels).__name__}", hint="give --label-key")
    labels = labels.to(output.device)
    if loss in OF_CLASSES and not (labels.is_floating_point() and labels.shape == output.shape):
        if labels.is_floating_point() and not bool((labels == labels.round()).all()):
            raise _unfit(output, labels, loss, "classes must be whole numbers")
        labels = labels.long()
        if labels.ndim == output.ndim and labels.ndim > 1 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        if output.ndim > 2 and labels.shape != (len(output), *output.shape[2:]) and labels.shape == output.shape[:-1]:
            output = output.movedim(-1, 1)
        if output.ndim > 1 and labels.shape != (len(output), *output.shape[2:]):
            raise _unfit(output, labels, loss, "one label a sample, and classes on axis 1 of the output")
        classes = output.shape[1 if output.ndim > 1 else 0]
        if labels.numel() and not bool(((labels < classes) & (labels >= 0) | (labels == IGNORED)).all()):
            low, high = int(labels.min()), int(labels.max())
            raise _unfit(output, labels, loss, f"labels are {low} to {high}, of {classes} classes counted from 0")
        return output, labels
    if labels.shape != output.shape:
        if [size for size in labels.shape if size != 1] != [size for size in output.shape if size != 1]:
            raise _unfit(output, labels, loss, "it compares tensors of one shape")
        labels = labels.reshape(output.shape)
    return output, labels.to(output.dtype)


def right_classes(output: Any, labels: Any, loss: str) -> tuple[int, int]:
    """How many predictions name the class of their label, out of how many; (0, 0) unless labels are classes.

    With `bce_with_logits` and labels of 0 and 1, each output is a prediction: that the label is 1, if it is positive.
    Otherwise labels are classes if they are integers, of the shape of the output without its axis 1.
    """
    if not isinstance(output, Tensor) or not isinstance(labels, Tensor):
        return 0, 0
    output, labels = output.detach(), labels.detach()
    if loss == "bce_with_logits":
        is_one = labels == 1
        known = bool((is_one | (labels == 0)).all())
        return (int(((output > 0) == is_one).sum()), labels.numel()) if known else (0, 0)
    is_of_classes = labels.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)
    if loss in ("mse", "l1") or not is_of_classes or output.ndim < 2 or output.shape[1] < 2:
        return 0, 0
    if labels.shape != (len(output), *output.shape[2:]):
        return 0, 0
    known = labels != IGNORED
    return int(((output.argmax(1) == labels.to(output.device)) & known.to(output.device)).sum()), int(known.sum())


def _unfit(output: Tensor, labels: Tensor, loss: str, why: str) -> DataError:
    shapes = f"labels {tuple(labels.shape)} do not fit the output {tuple(output.shape)}"
    return DataError(f"{shapes} for {loss}: {why}", hint="choose the labels with --label-key, or another --loss")
