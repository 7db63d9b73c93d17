"""The box of inputs that a proof is about, entry by entry of one sample; and samples of the data in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from deadrelu.errors import DataError, UsageError
from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.report.proof import Box
from deadrelu.text.wording import count

_MOST_KEPT = 4096
_ROOM = 50_000_000
"""So many samples are kept, from which a search for inputs starts, but no more than so many values in all."""


@dataclass(frozen=True)
class Sampled:
    """The inputs of a model for single samples: `low` and `high` for each, and `rows` of samples on axis 0.

    A row of an input is what the model gets for one sample, with its own batch axis of 1. `one` is the first of them
    as a batch.
    """

    one: Batch
    low: tuple[Tensor, ...]
    high: tuple[Tensor, ...]
    rows: tuple[Tensor, ...]

    def batch_of(self, values: Sequence[Tensor]) -> Batch:
        """One sample as a batch: these values in the place of its tensors."""
        return with_tensors(self.one, values)


def with_tensors(batch: Batch, values: Sequence[Tensor]) -> Batch:
    """The batch with other tensors, in the order of `tensor_leaves`."""
    left = iter(values)
    args, kwargs = tree_map(
        lambda leaf: next(left) if isinstance(leaf, Tensor) else leaf, (batch.args, dict(batch.kwargs))
    )
    return Batch(samples=batch.samples, args=args, kwargs=kwargs, axis=batch.axis)


def rows_of(batch: Batch) -> list[Tensor]:
    """The samples of each input: (samples, …), each with its own batch axis of 1.

    Raises `DataError` where its tensors do not hold so many.
    """
    found = []
    for tensor in tensor_leaves((batch.args, dict(batch.kwargs))):
        is_plain = not tensor.is_nested and tensor.layout is torch.strided and tensor.ndim > batch.axis
        if not is_plain or tensor.shape[batch.axis] != batch.samples:
            raise DataError(
                f"an input of shape {tuple(tensor.shape)} cannot be cut into {count(batch.samples, 'sample')}",
                hint="a proof is of one sample at a time: give the samples on the first axis of each input",
            )
        found.append(tensor.detach().cpu().movedim(batch.axis, 0).unsqueeze(batch.axis + 1))
    return found


def sampled(batches: Iterable[Batch], box: Box) -> Sampled:
    """Read the data once: the box, and samples. Raises `DataError` where samples differ in shape or are not finite."""
    one: Batch | None = None
    low: list[Tensor] = []
    high: list[Tensor] = []
    kept: list[list[Tensor]] = []
    for batch in batches:
        rows = rows_of(batch)
        if not batch.samples:
            continue
        least, most = [each.amin(0) for each in rows], [each.amax(0) for each in rows]
        if one is None:
            one = replace(with_tensors(batch, [each[0] for each in rows]), samples=1)
            low, high, kept = least, most, [[] for _ in rows]
        if [each.shape for each in least] != [each.shape for each in low]:
            raise DataError("the samples differ in shape", hint="a proof is about inputs of one shape")
        low = [torch.minimum(old, new) for old, new in zip(low, least, strict=True)]
        high = [torch.maximum(old, new) for old, new in zip(high, most, strict=True)]
        most_kept = max(min(_MOST_KEPT, _ROOM // max(sum(each.numel() for each in low), 1)), 1)
        for held, each in zip(kept, rows, strict=True):
            held.append(each[: max(most_kept - sum(map(len, held)), 0)])
    if one is None:
        raise DataError("there was no data: not one sample", hint="look at what --data gives")
    if not all(bool(torch.isfinite(end).all()) for end in (*low, *high) if end.is_floating_point()):
        raise DataError("the data holds non-finite values", hint="a box needs a finite range of each feature")
    ends = [_ends(least, most, box) for least, most in zip(low, high, strict=True)]
    return Sampled(
        one=one,
        low=tuple(each[0] for each in ends),
        high=tuple(each[1] for each in ends),
        rows=tuple(map(torch.cat, kept)),
    )


def _ends(low: Tensor, high: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """The ends of the box for one input; whole numbers keep the range of the data."""
    if not low.is_floating_point():
        return low, high
    if box.kind == "range":
        if box.low is None or box.high is None or not box.low <= box.high:
            raise UsageError(f"--box {box.low},{box.high} is not a range", hint="the lower end first: --box 0,1")
        return torch.full_like(low, box.low), torch.full_like(high, box.high)
    extra = (high - low) * box.margin
    return low - extra, high + extra
