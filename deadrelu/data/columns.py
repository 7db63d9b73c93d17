"""Whole arrays, one row a sample, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadrelu.data.batches import Notes
from deadrelu.data.cast import Caster, as_tensor
from deadrelu.data.choose import Choice, choose_by_name, choose_by_position
from deadrelu.errors import DataError
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.share import WHOLE, Share


def rows_of(total: int, samples: int | None, seed: int | None) -> list[int] | range:
    """Which rows to use, ascending: the first `samples`, or as many drawn at random where a seed is given."""
    if samples is None or samples >= total:
        return range(total)
    if seed is None:
        return range(samples)
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:samples]
    return [int(row) for row in drawn.sort().values]


def choose_columns(
    parts: Mapping[str, Any], program: Program, data_key: str | None, notes: Notes, *, named: bool
) -> Choice:
    """Choose among the arrays of one file or one batch, and note which are left out.

    Raises `DataError` where it is unclear which go into the model.
    """
    if named:
        choice = choose_by_name(list(parts), program, data_key, lambda: _describe(parts))
    else:
        choice = choose_by_position(len(parts), program, data_key)
    if choice.dropped:
        kind = "" if named else "part "
        notes.say(
            f"{kind}{', '.join(choice.names)} of the data {'go' if len(choice.names) > 1 else 'goes'} into the model;"
            f" {kind}{', '.join(choice.dropped)} {'are' if len(choice.dropped) > 1 else 'is'} left out"
        )
    return choice


class Columns:
    """The chosen arrays of one file or one object, all of the same length."""

    def __init__(self, parts: Mapping[str, Any], choice: Choice, where: str) -> None:
        """Take hold of the chosen arrays only. Raises `DataError` where their lengths differ or one has no axis."""
        self._choice = choice
        self._arrays = {name: parts[name] for name in choice.names}
        shapes = {name: tuple(array.shape) for name, array in self._arrays.items()}
        if not all(shapes.values()):
            raise DataError(
                f"{where} holds a single number, not an array of samples: {_describe(self._arrays)}",
                hint="the first axis must count the samples",
            )
        lengths = {shape[0] for shape in shapes.values()}
        if len(lengths) > 1:
            raise DataError(
                f"the arrays of {where} do not have the same number of samples: {_describe(self._arrays)}",
                hint="the first axis of each must count the same samples; choose with --data-key NAME",
            )
        self.length = lengths.pop()
        for name, array in self._arrays.items():
            as_tensor(array[:0], name)  # a type that no model takes is refused before the first batch

    def batches(
        self, rows: list[int] | range, batch_size: int, caster: Caster, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """The given rows in batches of `batch_size`, the last one smaller; those of `share` alone."""
        for index, start in enumerate(range(0, len(rows), batch_size)):
            if not share.takes(index):
                continue
            part = rows[start : start + batch_size]
            chosen: Any = slice(part[0], part[-1] + 1) if isinstance(part, range) else np.asarray(part)
            ready = {
                name: caster.cast(_copy(array, chosen, name), name, first=name == self._choice.names[0])
                for name, array in self._arrays.items()
            }
            yield Batch(
                samples=len(part),
                args=tuple(ready[name] for name in self._choice.args),
                kwargs={name: ready[name] for name in self._choice.kwargs},
            )


def _copy(array: Any, index: Any, name: str) -> Tensor:
    """The chosen rows as a tensor of their own: a model that works in place must not write into the user's data."""
    rows = as_tensor(array[index], name)
    return rows.clone() if isinstance(array, Tensor) and isinstance(index, slice) else rows


def _describe(parts: Mapping[str, Any]) -> str:
    """The arrays with their shapes, for a person who must choose."""
    texts = [f"{name} {_shape(parts, name)}" for name in list(parts)[:12]]
    return ", ".join(texts) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")


def _shape(parts: Mapping[str, Any], name: str) -> str:
    try:
        value = parts[name]
    except DataError:
        return "(cannot be read)"
    shape = getattr(value, "shape", None)
    return f"({', '.join(map(str, shape))})" if shape is not None else type(value).__name__
