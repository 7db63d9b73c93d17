"""Loaders around data that gives single samples: a Dataset, or a list of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from deadrelu.data.cast import as_tensor, is_array
from deadrelu.data.columns import choose_rows
from deadrelu.data.count import is_object
from deadrelu.data.fit import Fitting
from deadrelu.data.rows import has_shape, is_row
from deadrelu.data.signature import signature_of
from deadrelu.data.spec import DataSpec
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import map_tensors
from deadrelu.programs.shard import UNSHARDED, Shard

_ALL = 1 << 62


def is_dataset(data: object) -> bool:
    """Whether `data` gives single samples, by index or as an `IterableDataset`, and so needs a loader around it."""
    if isinstance(data, DataLoader | str | bytes | Tensor | Mapping | list | tuple):
        return False
    return isinstance(data, Dataset) or (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def load_dataset(data: Any, spec: DataSpec, *, as_lists: bool = False, shard: Shard = UNSHARDED) -> Any:
    """A loader over single samples: in order, or over a random subset where `samples` and a seed are given.

    The samples are stacked along the batch axis, or left as lists. Of a `shard` no other sample is touched, but for an
    `IterableDataset`, which is left whole.
    """
    axis = spec.batch_axis or 0
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=spec.batch_size or _ALL, collate_fn=_collate(axis, as_lists=as_lists))
    rows = choose_rows(len(data), spec)
    size = spec.batch_size or max(1, len(rows))
    starts = range(0, len(rows), size)
    mine = [list(rows[start : start + size]) for index, start in enumerate(starts) if shard.runs(index)]
    return DataLoader(data, batch_sampler=mine, collate_fn=_collate(axis, as_lists=as_lists))


def are_rows(data: Any, fitting: Fitting) -> bool:
    """Whether a list holds single samples, bare or each with its label, rather than batches."""
    program = fitting.program
    inputs = signature_of(program, fitting.spec.inputs).inputs
    heads = [_head(item) for item in data]
    if inputs > 1 or not heads or any(head is None for head in heads):
        return False
    if any(_holds_rows(item, program) for item in data):
        return False  # each item is a batch in a list
    if all(is_row(head, program) for head in heads):
        return not (heads[0].shape[0] == 1 and _is_batch(as_tensor(heads[0], "the list"), program))
    return _needs_axis(heads[0], program)


def takes_lists(fitting: Fitting) -> bool:
    """Whether the model takes a list of samples, as detectors take images."""
    return signature_of(fitting.program, fitting.spec.inputs).takes_list


def one_size(data: Any) -> bool:
    """Whether all samples of a list have one shape, so that they can be stacked."""
    return len({tuple(_head(item).shape) for item in data}) == 1


def _head(item: Any) -> Any:
    """The array that goes into the model: the item itself, or the first in it."""
    while isinstance(item, (Mapping, tuple, list)) and len(item):
        item = next(iter(item.values() if isinstance(item, Mapping) else item))
    return item if is_array(item) and has_shape(item) else None


def _holds_rows(item: Any, program: Program) -> bool:
    """Whether an item is a list of single samples, or begins with one."""
    while isinstance(item, (Mapping, tuple, list)) and len(item):
        if isinstance(item, list) and all(is_row(value, program) for value in item):
            return True
        item = next(iter(item.values() if isinstance(item, Mapping) else item))
    return False


def _needs_axis(head: Any, program: Program) -> bool:
    """Whether indices `(T,)` are one sentence: the model refuses them alone, and takes them with a batch axis."""
    if not isinstance(head, Tensor) or head.dim() != 1 or head.is_floating_point() or not program.takes_indices:
        return False
    return not _runs(head, program) and _runs(head.unsqueeze(0), program)


def _is_batch(head: Tensor, program: Program) -> bool:
    """Whether what looks like a row is a batch: the model refuses several of them stacked, and takes one as it is.

    Sounds `(1, L)` may be one channel of a sound, or a batch of one.
    """
    return not _runs(torch.stack([head, head]), program) and _runs(head, program)


def _runs(x: Tensor, program: Program) -> bool:
    """Whether a plain call raises nothing."""
    try:
        with program.plainly() as run:
            run(Batch(samples=1, args=(x,)))
    except (Exception, SystemExit):
        return False
    return True


def _collate(axis: int, *, as_lists: bool) -> Callable[[list[Any]], Any]:
    """How samples become a batch. A graph knows how; another object goes in alone."""

    def collate(items: list[Any]) -> Any:
        if is_object(items[0]) and type(items[0]).__module__.startswith("torch_geometric."):
            return import_module("torch_geometric.data").Batch.from_data_list(items)
        if as_lists and is_array(items[0]):
            return items
        if as_lists and isinstance(items[0], tuple):
            return tuple(map(list, zip(*items, strict=True)))
        stacked = default_collate(items)
        return map_tensors(stacked, lambda x: x.movedim(0, axis) if x.dim() > axis else x) if axis else stacked

    return collate
