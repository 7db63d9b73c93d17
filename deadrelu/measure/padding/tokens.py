"""The positions of one padded batch of sequences: which are real, and the values of a pre-activation there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deadrelu.programs.modes import is_transformed
from deadrelu.programs.program import Features


@dataclass(frozen=True, eq=False)
class Tokens:
    """A mask `(N, T)` of booleans on the CPU, True for a real position."""

    real: Tensor

    @cached_property
    def positions(self) -> int:
        """How many positions there are."""
        return self.real.numel()

    @cached_property
    def padded(self) -> int:
        """How many of them are padding."""
        return self.positions - int(self.real.sum())

    def equals(self, other: Tokens) -> bool:
        """Whether both mark the same positions."""
        return self is other or torch.equal(self.real, other.real)

    def arrange(self, z: Tensor, features: Features, *, time_first: bool) -> Tensor | None:
        """`z` as `(N, T, F)` or flattened to `(N·T, F)`; None where it is not laid out by these positions.

        Also accepted are `(N, F, T)` of a convolution over time, and `(T, N, F)` and `(T·N, F)` with `time_first`; the
        former without it too where T is not N, which leaves no doubt.
        """
        (samples, length), axes = self.real.shape, [axis % z.ndim for axis in features.axes] if z.ndim else []
        if z.ndim == 2 and axes == [1] and len(z) == samples * length:
            return z.view(length, samples, -1).transpose(0, 1).flatten(0, 1) if time_first and samples > 1 else z
        if z.ndim != 3:
            return None
        if axes == [1] and z.shape[0] == samples and z.shape[2] == length:
            return z.transpose(1, 2)
        if axes != [2]:
            return None
        if z.shape[:2] == (length, samples) and (time_first or samples != length):
            return z.transpose(0, 1)
        return z if z.shape[:2] == (samples, length) else None

    def parts(self, arranged: Tensor) -> Iterator[Tensor]:
        """What is real of `(N, T, F)`, as tensors `(n, t, F)` of n sequences of one length; of `(N·T, F)`, one tensor.

        A sequence without a real position is in none.
        """
        z = arranged.dequantize() if arranged.is_quantized else arranged
        rows = z.reshape(-1, z.shape[-1])
        if z.ndim == 2:
            yield rows.index_select(0, self.real.flatten().nonzero().squeeze(1).to(rows.device))
            return
        for samples, positions in self._groups:
            yield rows.index_select(0, positions.to(rows.device)).view(samples, -1, rows.shape[1])

    @cached_property
    def sequences(self) -> int:
        """How many of the sequences have a real position."""
        return int(self.real.any(1).sum())

    @cached_property
    def _groups(self) -> list[tuple[int, Tensor]]:
        """For each length, how many sequences have it, and where in `(N·T)` their real positions are."""
        lengths, positions = self.real.sum(1), torch.arange(self.positions).view(self.real.shape)
        groups = []
        for length in sorted({int(n) for n in lengths if n > 0}):
            rows = lengths == length
            groups.append((int(rows.sum()), positions[rows][self.real[rows]]))
        return groups


def read_mask(mask: object, *, one_is_padding: bool, is_added: bool = False) -> Tokens | None:
    """The positions that a mask `(N, T)` (or `(N, 1, 1, T)`) marks; None where it is not such a mask.

    Zeros and ones of any type are read as flags: the ones are padding, or are real. A mask of floats that holds minus
    infinity, or nearly, is added to the attention: what it removes is padding. With `is_added` floats are never flags.
    A mask that leaves nothing, or with any other values, is not one.
    """
    if not isinstance(mask, Tensor) or not can_be_read(mask) or mask.is_complex():
        return None
    if mask.ndim == 4 and mask.shape[1:3] == (1, 1):
        mask = mask[:, 0, 0]
    if mask.ndim != 2 or not mask.numel():
        return None
    mask = mask.detach().cpu()
    if mask.is_floating_point() and (is_added or bool((mask < 0).any())):
        least = torch.finfo(mask.dtype).min / 2
        if not bool(((mask == 0) | (mask < least)).all()):
            return None
        real = mask == 0
    elif bool(((mask == 0) | (mask == 1)).all()):
        real = (mask == 0) if one_is_padding else (mask != 0)
    else:
        return None
    return Tokens(real) if bool(real.any()) else None


def can_be_read(value: object) -> bool:
    """Whether something is a dense tensor whose values can be read: inside of torch.func's transforms they cannot."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_nested or value.is_meta:
        return False
    return not is_transformed(value)
