"""Batches from the user's own loader, data set or iterable, made by the user's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deadrelu.data.batches import Notes, first_tensor
from deadrelu.data.cast import Caster, is_array
from deadrelu.data.choose import required_names
from deadrelu.data.columns import choose_columns, rows_of
from deadrelu.errors import DataError
from deadrelu.programs.code import users_code
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.share import WHOLE, Share
from deadrelu.programs.undisturbed import stdout_on_stderr


def is_dataset(data: object) -> bool:
    """Whether `data` gives single samples, by index or as an `IterableDataset`, and so needs a loader around it."""
    if isinstance(data, DataLoader | str | bytes | Tensor | Mapping | list | tuple):
        return False
    return isinstance(data, Dataset) or (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def load_dataset(data: Any, *, batch_size: int, samples: int | None, seed: int | None, share: Share = WHOLE) -> Any:
    """A loader over single samples: in order, or over a random subset where `samples` and a seed are given.

    Of a `share` no other sample is touched, but for an `IterableDataset`, which is left whole.
    """
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=batch_size)
    rows = rows_of(len(data), samples, seed)
    starts = range(0, len(rows), batch_size)
    mine = [list(rows[start : start + batch_size]) for index, start in enumerate(starts) if share.takes(index)]
    return DataLoader(data, batch_sampler=mine)


class LoaderBatches:
    """The batches of one iterable, fitted to one model."""

    def __init__(
        self,
        fresh: Callable[[], Any],
        program: Program,
        where: str,
        notes: Notes,
        *,
        samples: int | None = None,
        seed: int | None = None,
        data_key: str | None = None,
    ) -> None:
        """`fresh` gives the iterable for each pass; it runs the user's code."""
        self._fresh = fresh
        self._program = program
        self._where = where
        self._notes = notes
        self._samples = samples
        self._seed = seed
        self._data_key = data_key
        self._caster = Caster(program, notes)
        self._inputs = max(1, len(required_names(program)))

    def __call__(self, share: Share = WHOLE) -> Iterator[Batch]:
        """Yield each batch of `share` until the iterable ends or `samples` are reached; the last batch is cut to fit.

        The user's iterable is gone through whole. Raises `DataError` where the user's code raises or calls `sys.exit`,
        or where a batch holds no tensor.
        """
        if self._seed is not None:
            torch.manual_seed(self._seed)  # a loader that shuffles draws from here, so two scans see the same rows
        left = self._samples
        full = 0  # batches that are not empty, so far
        for index, raw in enumerate(self._raw()):
            if left is not None and left <= 0:
                return
            # With a limit on the samples, those of the others' batches have to be counted too.
            if left is None and not share.takes(full) and not _is_empty(raw):
                full += 1
                continue
            batch = self._fit(raw, f"batch {index} of {self._where}")
            if batch.samples == 0:
                continue
            if left is not None:
                batch = _cut(batch, left)
                left -= batch.samples
            if share.takes(full):
                yield batch
            full += 1
            if left == 0:
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

    def _fit(self, raw: Any, where: str) -> Batch:
        """Choose what goes into the model, cast it, and count the samples."""
        parts, named = self._parts(raw, where)
        choice = choose_columns(parts, self._program, self._data_key, self._notes, named=named)
        ready = {
            name: self._caster.cast(parts[name], _call(name, named), first=name == choice.names[0])
            for name in choice.names
        }
        args, kwargs = tuple(ready[name] for name in choice.args), {name: ready[name] for name in choice.kwargs}
        first = first_tensor((args, kwargs))
        if first is None or first.dim() == 0:
            held = ", ".join(type(ready[name]).__name__ for name in choice.names) or "nothing"
            raise DataError(
                f"{where} holds no tensor of samples for the model, but {held}",
                hint="yield tensors, (x, y) pairs of tensors, or dicts whose keys are the model's parameters",
            )
        return Batch(samples=len(first), args=args, kwargs=kwargs)

    def _parts(self, raw: Any, where: str) -> tuple[Mapping[str, Any], bool]:
        """A batch as parts with names, and whether these are its own names. `((x1, x2), y)` gives its inner parts."""
        if isinstance(raw, Mapping):
            if not raw:
                raise DataError(f"{where} is an empty mapping", hint="yield dicts that hold tensors")
            return {str(key): value for key, value in raw.items()}, True
        if not isinstance(raw, tuple | list):
            return {"0": raw}, False
        if raw and isinstance(raw[0], Mapping) and self._data_key is None:
            return self._parts(raw[0], where)
        if raw and self._inputs > 1 and isinstance(raw[0], tuple | list) and len(raw[0]) >= self._inputs:
            return self._parts(raw[0], where)
        return {str(index): value for index, value in enumerate(raw)}, False


def are_columns(data: Sequence[Any], inputs: int) -> bool:
    """Whether a list or tuple holds whole arrays, one an input and perhaps the labels, rather than batches.

    A list of two arrays that are alike (same type, same number of dimensions) could be either; it is taken for two
    batches, a tuple for two arrays.
    """
    if not data or not all(is_array(part) for part in data):
        return False
    if isinstance(data, tuple):
        return True
    same_length = len({tuple(part.shape)[:1] for part in data}) == 1
    alike = len({(part.ndim, str(part.dtype)) for part in (data[0], data[-1])}) == 1
    with_labels = len(data) == inputs + 1 and not alike
    return same_length and (len(data) == inputs or with_labels)


def _is_empty(raw: Any) -> bool:
    """Whether a batch has no samples, by the look of its first tensor or array."""
    while isinstance(raw, (Mapping, tuple, list)) and len(raw):
        raw = next(iter(raw.values() if isinstance(raw, Mapping) else raw))
    return hasattr(raw, "__len__") and getattr(raw, "ndim", 1) > 0 and len(raw) == 0


def _call(name: str, named: bool) -> str:
    return name if named else f"part {name} of the batch"


def _cut(batch: Batch, samples: int) -> Batch:
    """The first `samples` of a batch."""
    if batch.samples <= samples:
        return batch

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:samples] if value.dim() and len(value) == batch.samples else value
        if isinstance(value, Mapping):
            return {key: cut(inner) for key, inner in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(cut, value))
        return value

    return Batch(samples=samples, args=cut(batch.args), kwargs=cut(batch.kwargs))
