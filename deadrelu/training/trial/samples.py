"""Training and validation samples: shuffled rows of what is held in memory, or the batches of the user's own loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deadrelu.data.batches import Batches
from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError, UsageError
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import map_tensors, tensor_leaves
from deadrelu.programs.rng import OwnRandomness
from deadrelu.report.trial import TrialData

HELD_OUT = 0.2
"""The share of the data that is held out for validation where no data is given for that."""


@dataclass(frozen=True)
class SampleRows:
    """Samples held in memory as one large batch, of which any can be taken."""

    batch: Batch

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.batch.samples

    def take(self, index: Tensor) -> SampleRows:
        """The samples of these numbers `(n,)`, in this order."""

        def rows(x: Tensor) -> Tensor:
            axis = self._axis(x)
            return x if axis is None else x.index_select(axis, index)

        args, kwargs, labels = map_tensors((self.batch.args, dict(self.batch.kwargs), self.batch.labels), rows)
        return SampleRows(replace(self.batch, samples=len(index), args=args, kwargs=kwargs, labels=labels))

    def split(self, size: int | None) -> list[Tensor]:
        """Numbers of the samples in random order, so many at once; a last one alone is left out.

        A batch norm cannot train on one sample.
        """
        parts = list(torch.randperm(self.samples).split(size or self.samples))
        return parts[:-1] if len(parts) > 1 and len(parts[-1]) == 1 else parts

    def batches_of(self, size: int) -> list[Batch]:
        """All samples in order, so many at once."""
        return [self.take(index).batch for index in torch.arange(self.samples).split(size)]

    def _axis(self, x: Tensor) -> int | None:
        """The axis of a tensor that counts samples; None if it has none."""
        for axis in dict.fromkeys((self.batch.axis, 0)):
            if x.ndim > axis and x.shape[axis] == self.samples:
                return axis
        return None

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> SampleRows | None:
        """The samples of all batches; None where their tensors cannot be joined."""
        leaves = [list(tensor_leaves((batch.args, batch.kwargs, batch.labels))) for batch in batches]
        first = batches[0]
        joined: list[Tensor] = []
        if any(len(each) != len(leaves[0]) for each in leaves):
            return None
        for tensors in zip(*leaves, strict=True):
            made = _join(tensors, batches)
            if made is None:
                return None
            joined.append(made)
        waiting = iter(joined)
        args, kwargs, labels = map_tensors((first.args, dict(first.kwargs), first.labels), lambda _: next(waiting))
        samples = sum(batch.samples for batch in batches)
        return cls(replace(first, samples=samples, args=args, kwargs=kwargs, labels=labels))


def _join(tensors: Sequence[Tensor], batches: Sequence[Batch]) -> Tensor | None:
    """One tensor with the samples of all batches; the first where each batch has the same; None if neither."""
    if len(tensors) == 1:
        return tensors[0]
    for axis in dict.fromkeys((batches[0].axis, 0)):
        if all(x.ndim > axis and x.shape[axis] == batch.samples for x, batch in zip(tensors, batches, strict=True)):
            rest = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in tensors}
            return torch.cat(list(tensors), axis) if len(rest) == 1 else None
    return tensors[0] if all(x.shape == tensors[0].shape and torch.equal(x, tensors[0]) for x in tensors) else None


class Stream:
    """Training batches without end, the same for each run with the same seed whatever the model does."""

    def __init__(self, source: SampleRows | Batches, spec: DataSpec, program: Program, seed: int) -> None:
        """Of rows held in memory, a Dataset or a loader."""
        self._source, self._spec, self._program = source, spec, program
        self._randomness = OwnRandomness(seed)

    def __iter__(self) -> Iterator[Batch]:
        """Epoch after epoch. Raises `DataError` where an epoch has no batch."""
        while True:
            with self._randomness:
                epoch = iter(self._epoch())
            drawn = 0
            while True:
                with self._randomness:
                    batch = next(epoch, None)
                if batch is None:
                    break
                drawn += 1
                yield batch
            if not drawn:
                raise DataError("there are no samples to train on", hint="look at what --data gives")

    def _epoch(self) -> Iterator[Batch]:
        """One pass over the data, in random order where it is ours to choose."""
        source = self._source
        if isinstance(source, SampleRows):
            return (source.take(index).batch for index in source.split(self._spec.batch_size))
        if source.dataset is not None:
            order = torch.randperm(len(source.dataset))
            shuffled = torch.utils.data.Subset(source.dataset, order.tolist())
            return iter(open_data(replace(self._spec, data=shuffled), self._program))
        return iter(source)


@dataclass(frozen=True)
class Samples:
    """What a run trains on and what it is judged on: rows in memory or a loader's batches, and a list of batches.

    One epoch has `epoch` batches. `data` says where all of it comes from.
    """

    train: SampleRows | Batches
    val: Sequence[Batch]
    epoch: int
    data: TrialData

    def stream(self, spec: DataSpec, program: Program, seed: int) -> Stream:
        """The training batches without end, by this seed."""
        return Stream(self.train, spec, program, seed)

    def some(self, most: int) -> list[Batch]:
        """Training samples in order, about so many, to measure the model on."""
        if isinstance(self.train, SampleRows):
            size = max(batch.samples for batch in self.val)
            return self.train.take(torch.arange(min(most, self.train.samples))).batches_of(size)
        found: list[Batch] = []
        with OwnRandomness(0):
            for batch in self.train:
                found.append(batch)
                if _sum(found) >= most:
                    break
        return found


def open_samples(train: DataSpec | None, val: DataSpec | None, program: Program) -> Samples:
    """Open both. Without validation data a fifth of the training samples is held out, the same for every run.

    Without training data, since the user's function has them, the validation data are what is measured before, too.
    Raises `DataError` where the data cannot be read, `UsageError` where it cannot be divided.
    """
    batches: Sequence[Batch]
    if train is None:
        assert val is not None
        opened = open_data(val, program)
        batches = _listed(opened)
        data = TrialData(
            train=None, train_samples=None, val=str(opened.info.source), val_samples=_sum(batches), held_out=False
        )
        return Samples(Batches.held(batches, opened.info), batches, 1, data)
    opened = open_data(train, program)
    held_out = val is None
    if opened.is_fixed:
        rows = _rows(opened)
        if held_out:
            order, kept = _divided(rows.samples, opened)
            rows, batches = rows.take(order[:kept]), rows.take(order[kept:]).batches_of(train.batch_size or len(order))
        source: SampleRows | Batches = rows
        samples, epoch = rows.samples, len(rows.split(train.batch_size))
    elif opened.dataset is not None and held_out:
        order, kept = _divided(len(opened.dataset), opened)
        parts = [torch.utils.data.Subset(opened.dataset, part.tolist()) for part in (order[:kept], order[kept:])]
        source, rest = (replace(open_data(replace(train, data=part), program), info=opened.info) for part in parts)
        samples, epoch, batches = kept, -(-kept // (train.batch_size or kept)), _listed(rest)
    elif held_out:
        raise UsageError(
            f"{opened.info.source} is a loader, of which nothing can be held out",
            hint="give validation data with --val",
        )
    else:
        source = opened
        counted = [batch.samples for batch in opened]
        samples, epoch = sum(counted), len(counted)
    if val is not None:
        opened_val = open_data(val, program)
        batches = _listed(opened_val)
    data = TrialData(
        train=str(opened.info.source),
        train_samples=samples,
        val=None if val is None else str(opened_val.info.source),
        val_samples=_sum(batches),
        held_out=held_out,
    )
    return Samples(source, batches, max(1, epoch), data)


def _rows(opened: Batches) -> SampleRows:
    batches = _listed(opened)
    rows = SampleRows.joined(batches)
    if rows is None:
        raise DataError(
            f"the samples of {opened.info.source} differ in size, and cannot be shuffled one by one",
            hint="give a loader that makes batches of them: file.py:loader",
        )
    return rows


def _divided(samples: int, opened: Batches) -> tuple[Tensor, int]:
    """A random order of the samples, the same each time, and how many of them are for training."""
    kept = samples - max(1, round(HELD_OUT * samples))
    if kept < 1:
        raise DataError(f"{opened.info.source} has {samples} sample", hint="give more, and validation data with --val")
    return torch.randperm(samples, generator=torch.Generator().manual_seed(0)), kept


def _listed(opened: Batches) -> list[Batch]:
    """All batches, in the order that a random loader gives by seed 0. Raises `DataError` if there are none."""
    with OwnRandomness(0):
        batches = list(opened)
    if not batches:
        raise DataError(f"{opened.info.source} has no samples", hint="look at what it gives")
    return batches


def _sum(batches: Sequence[Batch]) -> int:
    return sum(batch.samples for batch in batches)
