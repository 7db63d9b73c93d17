"""Rows of tensors of any layout, and single samples that are rows to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadrelu.data.cast import as_tensor, is_array
from deadrelu.programs.program import Program

_CONVOLUTIONS = {nn.Conv1d: 2, nn.Conv2d: 3, nn.Conv3d: 4}
Rows = range | Sequence[int]


def length_of(tensor: Any, axis: int = 0) -> int:
    """The size of one axis; also of a nested tensor, which has no shape."""
    return int(tensor.size(axis) if isinstance(tensor, Tensor) else tensor.shape[axis])


def rank_of(array: Any) -> int:
    """The number of axes."""
    return int(array.dim() if isinstance(array, Tensor) else len(array.shape))


def has_shape(value: Any) -> bool:
    """Whether it has a size along each axis: a nested tensor has not, and may raise where it is asked."""
    return not (isinstance(value, Tensor) and value.is_nested) and hasattr(value, "shape")


def taken(array: Any, rows: Rows, axis: int, name: str) -> Tensor:
    """The given rows along `axis` as a tensor of their own: a model that works in place must not change the data."""
    if isinstance(array, Tensor) and (array.is_nested or array.layout is not torch.strided):
        return _taken_from_unusual(array, rows, axis)
    index: Any = slice(rows[0], rows[-1] + 1) if isinstance(rows, range) and rows else np.asarray(rows, dtype=np.int64)
    found = as_tensor(array[(slice(None),) * axis + (index,)], name)
    return found.clone() if isinstance(array, Tensor) and isinstance(index, slice) else found


def whole(array: Any, name: str) -> Tensor:
    """All of it as a tensor of its own."""
    tensor = as_tensor(array, name)
    return tensor.clone() if isinstance(array, Tensor) else tensor


def cut(tensor: Tensor, samples: int, axis: int) -> Tensor:
    """The first `samples` along `axis`."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        return _taken_from_unusual(tensor, range(samples), axis)
    return tensor.narrow(axis, 0, samples)


def _taken_from_unusual(tensor: Tensor, rows: Rows, axis: int) -> Tensor:
    """Rows of a nested or a sparse tensor, which cannot be sliced; compressed rows go by way of coordinates."""
    if len(rows) == length_of(tensor, axis):
        return tensor.clone()
    if tensor.is_nested:
        parts = tensor.unbind()
        return torch.nested.as_nested_tensor([parts[row] for row in rows], layout=tensor.layout)
    picked = tensor.to_sparse_coo().index_select(axis, torch.tensor(list(rows), device=tensor.device))
    chosen: Tensor = picked.coalesce() if tensor.layout is torch.sparse_coo else picked.to_sparse(layout=tensor.layout)
    return chosen


def is_row(value: Any, program: Program) -> bool:
    """Whether an array is one sample without a batch axis, by what the first layer of the model takes."""
    if not is_array(value) or not has_shape(value):
        return False
    shape = tuple(value.shape)
    for _, module in program.modules():
        for kind, rank in _CONVOLUTIONS.items():
            if isinstance(module, kind):
                return len(shape) == rank and shape[0] == module.in_channels
        if isinstance(module, nn.Linear):
            return shape == (module.in_features,) or _flattens_to(shape, module.in_features)
        if isinstance(module, nn.RNNBase):
            return len(shape) == 2 and shape[1] == module.input_size
        if isinstance(module, nn.BatchNorm1d):
            return shape == (module.num_features,)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            return False  # (T,) may be a sentence, or T words
    return False


def _flattens_to(shape: tuple[int, ...], features: int) -> bool:
    """Whether this is one sample that the model flattens before its first linear layer."""
    return len(shape) > 1 and shape[-1] != features and int(np.prod(shape)) == features
