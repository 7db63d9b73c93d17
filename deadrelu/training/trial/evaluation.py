"""Judges a model on labelled batches: its loss, its accuracy, and a score for each sample, by which arms are paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deadrelu.errors import DataError
from deadrelu.measure.losses import IGNORED, OF_CLASSES, Loss, chosen_output, fitted, right_classes
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors

_EACH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda output, labels: F.cross_entropy(output, labels, reduction="none"),
    "nll": lambda output, labels: F.nll_loss(output, labels, reduction="none"),
    "mse": lambda output, labels: F.mse_loss(output, labels, reduction="none"),
    "l1": lambda output, labels: F.l1_loss(output, labels, reduction="none"),
    "bce_with_logits": lambda output, labels: F.binary_cross_entropy_with_logits(output, labels, reduction="none"),
}
"""The losses that go by name, for each entry by itself."""


@dataclass(frozen=True)
class Evaluation:
    """How a model did: the mean `loss`, the metric, and the `scores` whose mean the metric is.

    Scores are of single samples, or with a loss of the user's of whole batches: `unit` says which. The metric is the
    accuracy (0..1) where the labels are classes, and otherwise the loss.
    """

    loss: float
    metric: float
    scores: tuple[float, ...]
    unit: Literal["sample", "batch"]
    is_accuracy: bool


def evaluate(program: EagerProgram, batches: Sequence[Batch], loss: Loss) -> Evaluation:
    """Run the model in eval mode over the batches. Raises what the model and the loss raise."""
    losses: list[float] = []
    right: list[float] = []
    weights: list[int] = []
    each = None if loss.is_own else _EACH[loss.name]
    with program.plainly() as run:
        for batch in batches:
            output, labels = run(batch), batch.labels
            if each is None:
                losses.append(_value(loss, output, labels))
                right += _share_of_right(output, labels, loss)
                weights.append(batch.samples)
                continue
            output, labels = fitted(chosen_output(output, loss.name), labels, loss.name)
            known = labels != IGNORED if loss.name in OF_CLASSES else torch.ones_like(labels, dtype=torch.bool)
            losses += _by_sample(each(output, labels), known)
            right += _right_by_sample(output, labels, known, loss.name)
    is_accuracy = len(right) == len(losses) > 0
    scores = right if is_accuracy else losses
    mean = _weighted(losses, weights)
    metric = _weighted(right, weights) if is_accuracy else mean
    return Evaluation(mean, metric, tuple(scores), "sample" if each else "batch", is_accuracy)


def check_labels(batches: Sequence[Batch], is_accuracy: bool) -> None:
    """Raise `DataError` where all labels name one class: then every model that says so is right."""
    if not is_accuracy:
        return
    seen = {value for batch in batches if isinstance(batch.labels, Tensor) for value in batch.labels.unique().tolist()}
    if len(seen) == 1:
        raise DataError(
            f"all validation samples have the label {next(iter(seen)):g}, so that no arm can be told from another",
            hint="shuffle before you divide the data, and give another --val",
        )


def _value(loss: Loss, output: Any, labels: Any) -> float:
    """The user's loss of one batch."""
    with torch.enable_grad():
        value, _ = loss.compute(_attached(output), labels)
    return float(value.detach())


def _attached(output: Any) -> Any:
    """The output with a gradient, for a loss that is checked to have one."""
    return map_tensors(output, lambda x: x.requires_grad_() if x.is_floating_point() and not x.requires_grad else x)


def _by_sample(values: Tensor, known: Tensor) -> list[float]:
    """The mean over what is known of each sample; samples come first, and one of which nothing is known is left out."""
    values, known = values.reshape(len(values), -1).double(), known.reshape(len(known), -1)
    numbers = known.sum(1)
    means = values.where(known, 0).sum(1) / numbers
    return means[numbers > 0].tolist()


def _right_by_sample(output: Tensor, labels: Tensor, known: Tensor, loss: str) -> list[float]:
    """The share of right predictions of each sample; empty unless labels are classes. NaN is never right."""
    if not right_classes(output, labels, loss)[1]:
        return []
    if loss == "bce_with_logits":
        is_right = ((output > 0) == (labels == 1)) & output.isfinite()
    else:
        is_right = (output.argmax(1) == labels) & output.isfinite().all(1)
    return _by_sample(is_right.double(), known)


def _share_of_right(output: Any, labels: Any, loss: Loss) -> list[float]:
    right, of = right_classes(output, labels, loss.name)
    return [right / of] if of else []


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    """The mean, by weights where there are any."""
    if not values:
        return math.nan
    if not weights:
        return math.fsum(values) / len(values)
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
