"""Whole arrays, one row a sample, cut into batches; or one sample that is given whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deadrelu.data.axis import may_take_time_first
from deadrelu.data.cast import as_tensor
from deadrelu.data.choose import Choice, choose_by_name, choose_by_position
from deadrelu.data.count import is_graph
from deadrelu.data.fit import Fit, Fitting
from deadrelu.data.labels import label_name
from deadrelu.data.rows import Rows, has_shape, length_of, rank_of, taken, whole
from deadrelu.data.signature import signature_of
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError, UsageError
from deadrelu.programs.program import Batch
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.text.wording import count

_TRIAL = 2


def choose_rows(total: int, spec: DataSpec) -> list[int] | range:
    """Which rows to use, ascending: the first `samples`, or as many drawn at random where a seed is given."""
    if spec.samples is None or spec.samples >= total:
        return range(total)
    if spec.seed is None:
        return range(spec.samples)
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(spec.seed))[: spec.samples]
    return [int(row) for row in drawn.sort().values]


def choose_columns(parts: Mapping[str, Any], fitting: Fitting, *, named: bool) -> Choice:
    """Choose among the arrays of one file or one batch, and note which are left out.

    Raises `DataError` where it is unclear which go into the model.
    """
    signature, key = signature_of(fitting.program, fitting.spec.inputs), fitting.spec.data_key
    if named:
        choice = choose_by_name(list(parts), signature, key, lambda: _describe(parts))
    else:
        choice = choose_by_position(len(parts), signature, key)
    if choice.dropped:
        kind, several = "" if named else "part ", len(choice.dropped) > 1
        left_out = "are left out" if several else "is left out"
        if fitting.spec.labelling is not None:  # one of them holds the labels
            left_out = "do not" if several else "does not"
        fitting.notes.say(
            f"{kind}{', '.join(choice.names)} of the data {'go' if len(choice.names) > 1 else 'goes'} into the model;"
            f" {kind}{', '.join(choice.dropped)} {left_out}"
        )
    return choice


class Columns:
    """The chosen arrays of one file or one object: all of the same length, or the parts of one sample."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        choice: Choice,
        where: str,
        fitting: Fitting,
        *,
        named: bool,
        from_file: bool,
    ) -> None:
        """Take hold of the chosen arrays only, and of the labels if they are wanted.

        Raises `DataError` where one has no axis, a type that no model takes, or another length than the others.
        """
        self._choice = choice
        self._where = where
        self._fitting = fitting
        self._from_file = from_file
        self._spec = fitting.spec
        self._arrays = {name: parts[name] for name in choice.names}
        self._label: str | None = None
        if self._spec.labelling is not None:
            self._label = label_name(list(parts), choice, self._spec.labelling, where, named=named)
            self._labels = parts[self._label]
        if not all(map(rank_of, self._arrays.values())):
            raise DataError(
                f"{where} holds a single number, not an array of samples: {_describe(self._arrays)}",
                hint="the first axis must count the samples",
            )
        for name, array in self._arrays.items():
            if not isinstance(array, Tensor):
                as_tensor(array[:0], name)  # a type that no model takes is refused before the first batch
        self._is_whole = self._parts_of_one()
        if self._is_whole and self._spec.batch_size is not None:
            fitting.notes.say(f"{where} is one sample, given whole: {_describe(self._arrays)}")
        elif not self._is_whole and (self._spec.batch_axis is not None or not self._may_have_rows_on_1()):
            self._check(self._spec.batch_axis or 0)

    def batches(self, shard: Shard = UNSHARDED) -> Iterator[Batch]:
        """The rows in batches, the last one smaller; those of `shard` alone.

        Raises `DataError` where the arrays do not have the same number of rows.
        """
        fit = self._fitting.of(from_file=self._from_file)
        if self._is_whole:
            if any(length_of(array) for array in self._arrays.values()):
                parts = {name: whole(array, name) for name, array in self._arrays.items()}
                batch = fit.counted(self._fitted(fit, parts), is_whole=True)[0]
                yield batch if self._label is None else replace(batch, labels=whole(self._labels, self._label))
            return
        axis = self._axis(fit)
        self._check(axis)
        total = length_of(next(iter(self._arrays.values())), axis)
        self._check_labels(total)
        rows = choose_rows(total, self._spec)
        size = self._spec.batch_size or max(1, len(rows))
        for index, start in enumerate(range(0, len(rows), size)):
            if shard.runs(index):
                part = rows[start : start + size]
                batch = fit.counted(self._cut(fit, part, axis))[0]
                yield batch if self._label is None else replace(batch, labels=taken(self._labels, part, 0, self._label))

    def _axis(self, fit: Fit) -> int:
        """The axis that the rows are cut along: the user's, or what a few rows show of the model."""
        if self._spec.batch_axis is not None:
            return self._spec.batch_axis
        count = min(_TRIAL, *map(length_of, self._arrays.values()))
        return fit.axis_of(self._cut(fit, range(count), 0)) if count else 0

    def _cut(self, fit: Fit, rows: Rows, axis: int) -> Batch:
        return self._fitted(fit, {name: taken(array, rows, axis, name) for name, array in self._arrays.items()})

    def _fitted(self, fit: Fit, parts: Mapping[str, Tensor]) -> Batch:
        return fit.batch(parts, self._choice, str, self._where)

    def _has_rows(self, axis: int) -> bool:
        """Whether all arrays have this axis, and the same length along it."""
        arrays = self._arrays.values()
        fits = all(rank_of(array) > axis and (axis == 0 or has_shape(array)) for array in arrays)
        return fits and len({length_of(a, axis) for a in arrays}) == 1

    def _parts_of_one(self) -> bool:
        """Whether the arrays are one sample, such as a graph: by their shapes, or where nothing is to be cut."""
        arrays = list(self._arrays.values())
        if self._has_rows(self._spec.batch_axis or 0):
            return is_graph(arrays, is_whole=self._spec.batch_size is None)
        if self._spec.batch_axis is not None or self._may_have_rows_on_1():
            return False
        return self._spec.batch_size is None or is_graph(arrays)

    def _may_have_rows_on_1(self) -> bool:
        """Whether arrays of different lengths may be sequences, time first; the first rows will show it."""
        return self._has_rows(1) and may_take_time_first(self._fitting.program)

    def _check_labels(self, total: int) -> None:
        """Raise `DataError` unless there is a label for each sample, counted by the first axis."""
        if self._label is not None and (not rank_of(self._labels) or length_of(self._labels) != total):
            labels = _describe({self._label: self._labels})
            raise DataError(
                f"the labels of {self._where} are {labels}, for {count(total, 'sample')}",
                hint="the first axis of the labels must count the samples; choose them with --label-key NAME",
            )

    def _check(self, axis: int) -> None:
        least = min(map(rank_of, self._arrays.values()))
        if axis >= least:
            raise UsageError(
                f"{self._where} has no axis {axis} to count samples along: {_describe(self._arrays)}",
                hint=f"give a --batch-axis from 0 to {least - 1}",
            )
        if not self._has_rows(axis):
            counts = "the first axis of each" if axis == 0 else f"axis {axis} of each"
            raise DataError(
                f"the arrays of {self._where} do not have the same number of samples: {_describe(self._arrays)}",
                hint=f"{counts} must count the same samples; choose with --data-key NAME, or give all of it to one call"
                " with --batch-size none",
            )


def _describe(parts: Mapping[str, Any]) -> str:
    """The arrays with their shapes, for a person who must choose."""
    texts = [f"{name} {_shape(parts, name)}" for name in list(parts)[:12]]
    return ", ".join(texts) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")


def _shape(parts: Mapping[str, Any], name: str) -> str:
    try:
        value = parts[name]
    except DataError:
        return "(cannot be read)"
    if isinstance(value, Tensor) and value.is_nested:
        return f"({count(len(value), 'sequence')})"
    shape = getattr(value, "shape", None)
    return f"({', '.join(map(str, shape))})" if shape is not None else type(value).__name__
