"""How many samples of a batch reached a site: those whose rows it got, never more than it has rows."""

from __future__ import annotations

import math

from torch import Tensor

from deadrelu.programs.program import Batch, Features
from deadrelu.programs.pytree import tensor_leaves


class Reach:
    """Counts the samples that reached one site.

    A site that is called several times in one forward pass (the steps of an RNN) is reached by each sample once.
    """

    def __init__(self) -> None:
        """No sample yet."""
        self._pass = self._in_pass = 0
        self._may_be_time_first = True

    def new(self, z: Tensor, features: Features, batch: Batch, number: int) -> int:
        """How many samples reach the site with `z` for the first time in the forward pass of this `number`."""
        samples = batch.samples
        if not features.has_samples and (not z.ndim or z.shape[0] != samples or batch.axis):
            samples = self._within(z, features, batch)
        return self.at_most(min(samples, _positions(z, features)), number)

    def at_most(self, samples: int, number: int) -> int:
        """Count a call that so many samples reach; return how many of them are new in this forward pass."""
        if self._pass != number:
            self._pass, self._in_pass = number, samples
            return samples
        new = max(0, samples - self._in_pass)
        self._in_pass += new
        return new

    def _within(self, z: Tensor, features: Features, batch: Batch) -> int:
        """How many samples `z` can hold."""
        if z.ndim < 2:
            return min(batch.samples, 1 if features.axes else z.numel())
        axes = {axis % z.ndim for axis in features.axes}
        rows = 1 if 0 in axes else z.shape[0]
        if 1 in axes or rows == batch.samples:
            return min(batch.samples, rows)
        if batch.axis and z.ndim > 2:
            return min(batch.samples, z.shape[1])
        self._may_be_time_first &= z.shape[1] == batch.samples
        if self._may_be_time_first and (batch.axis or not _is_square(batch)):
            return batch.samples
        return min(batch.samples, rows)


def _positions(z: Tensor, features: Features) -> int:
    """How many positions each unit has in `z`: a sample that reached it has at least one."""
    units = math.prod(z.shape[axis] for axis in features.axes)
    return z.numel() // units if units else 0


def _is_square(batch: Batch) -> bool:
    """Whether an input has another dimension as long as that of the samples.

    Then (k, T, F) of k samples that were picked out of the batch looks like (T, N, F), with time first.
    """
    tensors = tensor_leaves((batch.args, batch.kwargs))
    return any(size == batch.samples for x in tensors for dim, size in enumerate(x.shape) if dim != batch.axis)


def samples_first(z: Tensor, features: Features, samples: int) -> Tensor:
    """`z` with the samples on dimension 0 if they are on 1: `(T, N, F)` as `(N, T, F)`."""
    if z.ndim < 3 or z.shape[1] != samples or any(axis % z.ndim < 2 for axis in features.axes):
        return z
    return z.transpose(0, 1)
