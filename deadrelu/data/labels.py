"""Finds the labels of a batch or a file, which a loss compares with the model's output and the model never gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deadrelu.data.cast import as_tensor, is_array
from deadrelu.data.choose import LABELS, Choice
from deadrelu.data.count import is_object
from deadrelu.data.rows import cut, length_of
from deadrelu.data.spec import Labelling
from deadrelu.errors import DataError
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors
from deadrelu.text.spelling import did_you_mean

_EXACT = ("y", "label", "labels", "target", "targets")


def label_name(names: Sequence[str], choice: Choice, labelling: Labelling, where: str, *, named: bool) -> str:
    """Which of several arrays holds the labels: the one of the key, or the one that looks like it.

    Of arrays with names that is `y`, `label`, `labels`, `target` or `targets`, else the only one with a similar name.
    Of the others it is the only one that the model does not get. Raises `DataError` if none does, or several do.
    """
    key = labelling.key
    if key is not None:
        if key not in names:
            raise DataError(
                f"--label-key {key}: {where} has no {key}; it has {', '.join(names)}",
                hint=did_you_mean(key, names, write="--label-key {}") or "name an array that is there",
            )
        return key
    left = choice.dropped
    if named:
        similar = [name for name in left if LABELS.fullmatch(name)]
        found = [name for name in left if name.lower() in _EXACT] or similar
    else:
        found = list(left)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{where} has several labels: {', '.join(found)}", hint=f"choose with --label-key {found[-1]}")
    beside = f"; it has {', '.join(names)}" if named else ""
    raise DataError(f"{where} has no labels, which a loss needs{beside}", hint=_how(names if named else left))


def labels_of_batch(
    raw: Any, parts: Mapping[str, Any], choice: Choice, labelling: Labelling, where: str, *, named: bool
) -> Any:
    """The labels of a batch `raw`, in which the model's inputs were found as `parts`.

    Of `((x1, x2), y)` and `({...}, y)`, in which the inputs are parts of the first element, that is the second; of a
    graph or another object, what it holds under the key, or as `y`, `label`, `labels`, `target` or `targets`.
    """
    alone = parts[choice.names[0]] if len(parts) == 1 and choice.names else None
    if isinstance(alone, Mapping):
        name = label_name(tuple(map(str, alone)), Choice(dropped=tuple(map(str, alone))), labelling, where, named=True)
        return labels_of(alone[name], f"{name} of {where}")
    if is_object(alone):
        held = next((name for name in ((labelling.key,) if labelling.key else _EXACT) if hasattr(alone, name)), None)
        if held is not None:
            return labels_of(getattr(alone, held), f"{held} of {where}")
    if isinstance(raw, tuple | list) and len(raw) > 1 and labelling.key not in parts and raw is not alone:
        inside = {id(part) for part in parts.values()}
        outer = {str(number): value for number, value in enumerate(raw) if id(value) not in inside}
        if len(outer) == len(raw):  # the inputs are parts of one of its elements
            taken = Choice(dropped=tuple(outer)[1:])
            name = label_name(tuple(outer), taken, labelling, where, named=False)
            return labels_of(outer[name], f"part {name} of {where}")
    name = label_name(tuple(parts), choice, labelling, where, named=named)
    return labels_of(parts[name], name if named else f"part {name} of {where}")


def labels_of(value: Any, where: str) -> Any:
    """The labels, with arrays as tensors. Raises `DataError` for text, dates and objects."""
    if is_array(value):
        return as_tensor(value, where)
    if isinstance(value, tuple | list) and value and all(isinstance(one, int | float) for one in value):
        return as_tensor(value, where)
    return map_tensors(value, Tensor.detach)


def first_labels(labels: Any, batch: Batch, samples: int) -> Any:
    """The labels of the first `samples` of a batch."""

    def shorter(x: Tensor) -> Tensor:
        for axis in dict.fromkeys((batch.axis, 0)):
            if x.dim() > axis and length_of(x, axis) == batch.samples:
                return cut(x, samples, axis)
        return x

    def listed(value: Any) -> Any:
        return value[:samples] if type(value) is list and len(value) == batch.samples else None

    return map_tensors(labels, shorter, listed)


def _how(names: Sequence[str]) -> str:
    """How to say where the labels are."""
    if names:
        return "name the array that holds them with --label-key NAME"
    return "give (x, y) batches, a file with x and y, or name the array that holds them with --label-key NAME"
