"""Batches from the user's own loader, data set or iterable, made by the user's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from deadrelu.data.cast import as_tensor, is_array
from deadrelu.data.columns import choose_columns
from deadrelu.data.count import is_object
from deadrelu.data.fit import Fitting
from deadrelu.data.labels import first_labels, labels_of_batch
from deadrelu.data.rows import cut, is_row, length_of, rank_of
from deadrelu.data.signature import signature_of
from deadrelu.errors import DataError
from deadrelu.programs.code import users_code
from deadrelu.programs.process_state import stdout_on_stderr
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import map_tensors
from deadrelu.programs.shard import UNSHARDED, Shard


class LoaderBatches:
    """The batches of one iterable, fitted to one model."""

    def __init__(self, fresh: Callable[[], Any], fitting: Fitting, where: str) -> None:
        """`fresh` gives the iterable for each pass; it runs the user's code."""
        self._fresh = fresh
        self._fitting = fitting
        self._where = where
        self._spec = fitting.spec
        self._signature = signature_of(fitting.program, fitting.spec.inputs)

    def __call__(self, shard: Shard = UNSHARDED) -> Iterator[Batch]:
        """Yield each batch of `shard` until the iterable ends or `samples` are reached; the last batch is cut to fit.

        The user's iterable is gone through whole. Raises `DataError` where the user's code raises or calls `sys.exit`,
        or where a batch holds no tensor.
        """
        if self._spec.seed is not None:
            torch.manual_seed(self._spec.seed)  # a loader that shuffles draws from here, so two scans see the same rows
        fit = self._fitting.of(from_file=False)
        left = self._spec.samples
        full = 0  # batches that are not empty, so far
        for index, raw in enumerate(self._raw()):
            if left is not None and left <= 0:
                return
            where = f"batch {index} of {self._where}"
            is_empty = _is_empty(raw)
            # With a limit on the samples, those of the others' batches have to be counted too.
            if is_empty or (left is None and not shard.runs(full)):
                full += not is_empty
                continue
            parts, named = self._parts(raw, where)
            choice = choose_columns(parts, self._fitting, named=named)
            stacked = {name: self._stacked(parts[name]) for name in choice.names}
            made = fit.batch(stacked, choice, lambda name: name if named else f"part {name} of the batch", where)  # noqa: B023
            batch, are_rows = fit.counted(made)
            if (labelling := self._spec.labelling) is not None:
                labels = labels_of_batch(raw, parts, choice, labelling, where, named=named)
                batch = replace(batch, labels=labels)
            if batch.samples == 0:
                continue
            if left is not None:
                if are_rows:
                    batch = _cut(batch, left, self._fitting.program)
                left -= batch.samples
            if shard.runs(full):
                yield batch
            full += 1
            if left is not None and left <= 0:
                return

    def _raw(self) -> Iterator[Any]:
        """What the user's iterable gives, unchanged."""
        iterator: Iterator[Any] | None = None
        index = 0

        def failed(why: str) -> DataError:
            return DataError(f"{self._where} failed at batch {index}: {why}", hint="run the loader alone to see why")

        while True:
            # Its data may come from gradients, as adversarial examples do.
            with users_code(failed), stdout_on_stderr(), torch.enable_grad():
                if iterator is None:
                    iterator = iter(self._fresh())
                raw = next(iterator, iterator)
            if raw is iterator:
                return
            yield raw
            index += 1

    def _parts(self, raw: Any, where: str) -> tuple[Mapping[str, Any], bool]:
        """A batch as parts with names, and whether these are its own names. `((x1, x2), y)` gives its inner parts."""
        if self._spec.data_key is None and self._is_one(raw):
            return {"0": raw}, False
        if isinstance(raw, Mapping):
            if not raw:
                raise DataError(f"{where} is an empty mapping", hint="yield dicts that hold tensors")
            return {str(key): value for key, value in raw.items()}, True
        if not isinstance(raw, tuple | list):
            return {"0": raw}, False
        if raw and isinstance(raw[0], Mapping) and self._spec.data_key is None:
            return self._parts(raw[0], where)
        inputs = self._signature.inputs
        if raw and inputs > 1 and isinstance(raw[0], tuple | list) and len(raw[0]) >= inputs:
            return self._parts(raw[0], where)
        return {str(index): value for index, value in enumerate(raw)}, False

    def _is_one(self, raw: Any) -> bool:
        """Whether forward takes this container whole as its one argument, by what its source does with it."""
        takes = self._signature
        if isinstance(raw, PackedSequence):
            return True
        if len(takes.required) != 1:
            return False
        if isinstance(raw, Mapping):
            names = {str(key) for key in raw}
            if names & {*takes.parameters}:
                return False
            return takes.spread or bool(names & takes.fields) or callable(getattr(raw, "to", None))
        if isinstance(raw, tuple | list) and raw:
            if takes.fields & {*getattr(raw, "_fields", ())} or 1 < takes.unpacked == len(raw):
                return True
            return isinstance(raw, list) and (takes.takes_list or self._are_images(raw)) and all(map(is_array, raw))
        return False

    def _are_images(self, value: Any) -> bool:
        """Whether this is a list of single samples, each a row of a batch to be."""
        return isinstance(value, list) and bool(value) and all(is_row(x, self._fitting.program) for x in value)

    def _stacked(self, value: Any) -> Any:
        """A list of single samples of one size as a batch, unless forward takes the list."""
        if not self._are_images(value) or self._signature.takes_list or len({tuple(x.shape) for x in value}) > 1:
            return value
        return torch.stack([as_tensor(x, "the list") for x in value], dim=self._spec.batch_axis or 0)


def are_columns(data: Sequence[Any], inputs: int) -> bool:
    """Whether a list or tuple holds whole arrays, one an input and perhaps the labels, rather than batches.

    A list of two arrays that are alike (same type, same number of dimensions) could be either; it counts as two
    batches, a tuple as two arrays.
    """
    if not data or not all(is_array(part) and rank_of(part) for part in data):
        return False
    if isinstance(data, tuple):
        return True
    same_length = len({length_of(part) for part in data}) == 1
    alike = len({(rank_of(part), str(part.dtype)) for part in (data[0], data[-1])}) == 1
    with_labels = len(data) == inputs + 1 and not alike
    return same_length and (len(data) == inputs or with_labels)


def _is_empty(raw: Any) -> bool:
    """Whether a batch has no samples, by the look of its first tensor or array."""
    while isinstance(raw, (Mapping, tuple, list)) and len(raw):
        raw = next(iter(raw.values() if isinstance(raw, Mapping) else raw))
    return is_array(raw) and not is_object(raw) and rank_of(raw) > 0 and length_of(raw) == 0


def _cut(batch: Batch, samples: int, program: Program) -> Batch:
    """The first `samples` of a batch."""
    if batch.samples <= samples:
        return batch

    def shorter(x: Tensor) -> Tensor:
        fits = x.dim() > batch.axis and length_of(x, batch.axis) == batch.samples
        return cut(x, samples, batch.axis) if fits else x

    def listed(value: Any) -> Any:
        rows = type(value) is list and len(value) == batch.samples and all(is_row(x, program) for x in value)
        return value[:samples] if rows else None

    return replace(
        batch,
        samples=samples,
        args=map_tensors(tuple(batch.args), shorter, listed),
        kwargs=map_tensors(dict(batch.kwargs), shorter, listed),
        labels=first_labels(batch.labels, batch, samples),
    )
