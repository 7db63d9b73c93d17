"""Nested tensors: sequences of different lengths in one tensor, without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def jagged_values(z: Tensor) -> Tensor:
    """The rows `(sum of lengths, …)` of a jagged tensor `(N, length, …)` that has them in one tensor, else `z` itself.

    It is that very tensor and not a copy, so its layout is still known. `_values`, `_lengths` and `_ragged_idx` are
    private to torch (seen on 2.13.0); a test scans models that need them.
    """
    if z.layout is torch.jagged and getattr(z, "_ragged_idx", 0) == 1 and getattr(z, "_lengths", 0) is None:
        values: Any = z._values
        return values if isinstance(values, Tensor) else z
    return z


def flatten_nested(z: Tensor) -> Tensor:
    """The rows `(sum of lengths, F)` of a nested tensor of sequences `(length, F)`; any other tensor as it is."""
    if not z.is_nested or not (piece := jagged_values(z)).is_nested:
        return piece if z.is_nested else z
    try:
        sequences = z.unbind()
        return torch.cat(list(sequences)) if all(x.ndim == 2 for x in sequences) else z
    except (RuntimeError, NotImplementedError):
        return z
