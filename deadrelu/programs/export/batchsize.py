"""Fits batches to a program with a fixed range of batch sizes: splits and pads them, and hides the padded rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import map_tensors


@dataclass(frozen=True)
class BatchSize:
    """The smallest and largest number of samples in one call; `high` None is unlimited."""

    low: int = 0
    high: int | None = None

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch, split into pieces that are not too large."""
        if self.high is None or batch.samples <= self.high or batch.axis:
            yield batch
            return
        for start in range(0, batch.samples, self.high):
            stop = min(start + self.high, batch.samples)

            def cut(x: Tensor, start: int = start, stop: int = stop) -> Tensor:
                return x[start:stop]

            yield replace(_with_rows(batch, cut), samples=stop - start)

    def rows(self, batch: Batch) -> PaddedRows:
        """How many rows of the padded batch are real; a batch whose samples are not on axis 0 is not padded."""
        return PaddedRows(batch.samples, batch.samples if batch.axis else max(self.low, batch.samples))

    def padded(self, batch: Batch, *, zeros: bool = False) -> Batch:
        """The batch with its last sample repeated until it is large enough; or with `zeros` in the added rows."""
        rows = self.rows(batch)
        if rows.real == rows.all:
            return batch
        index = torch.arange(rows.all).clamp(max=rows.real - 1)

        def pad(x: Tensor) -> Tensor:
            x = x[index.to(x.device)]
            if zeros:
                x[rows.real :] = 0
            return x

        return replace(_with_rows(batch, pad), samples=rows.all)


@dataclass(frozen=True)
class PaddedRows:
    """How many samples of a call are real, out of how many."""

    real: int
    all: int

    def of(self, z: Tensor) -> Tensor | None:
        """The real rows of a pre-activation; None where its first dimension does not hold the samples.

        Time that is flattened into the samples (N·T) is cut in proportion.
        """
        if self.real == self.all:
            return z
        if z.ndim == 0 or len(z) == 0 or len(z) % self.all:
            return None
        return z[: len(z) // self.all * self.real]

    def out(self, output: Any) -> Any:
        """The same pytree with only the rows of the real samples."""
        return output if self.real == self.all else map_tensors(output, lambda x: x[: self.real] if self._is(x) else x)

    def _is(self, x: Tensor) -> bool:
        return x.ndim > 0 and len(x) == self.all


def join_outputs(outputs: list[Any]) -> Any:
    """The outputs of several pieces as one: tensors concatenated, pytrees leaf by leaf."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(outputs) if first.ndim else torch.stack(outputs)
    if isinstance(first, Mapping):
        return {key: join_outputs([output[key] for output in outputs]) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(join_outputs(list(parts)) for parts in zip(*outputs, strict=True))
    return first


def _with_rows(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed that has one row per sample."""

    def each(x: Tensor) -> Tensor:
        return change(x) if x.ndim > 0 and len(x) == batch.samples else x

    args, kwargs, labels = (map_tensors(value, each) for value in (batch.args, dict(batch.kwargs), batch.labels))
    return replace(batch, args=args, kwargs=kwargs, labels=labels)
