"""Turn arrays into tensors of the type that the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadrelu.data.batches import Notes
from deadrelu.errors import DataError
from deadrelu.programs.program import Program


def as_tensor(array: Any, name: str) -> Tensor:
    """A tensor of the same values; a numpy array is copied, so that a memory map stays as it is on disk.

    Raises `DataError` for complex numbers, text, dates, objects and records.
    """
    if isinstance(array, Tensor):
        if array.is_complex():
            raise _refusal(name, "complex numbers")
        return array.detach()
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise _refusal(name, _kind(array))
    narrow = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=narrow, order="C"))


def _refusal(name: str, kind: str) -> DataError:
    return DataError(
        f"{name} holds {kind}, not numbers that a model can take",
        hint="save it as a plain array of floats or integers",
    )


def _kind(array: np.ndarray[Any, Any]) -> str:
    """What an array of no numbers holds, in words."""
    words = {"c": "complex numbers", "O": "Python objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
    return words.get(array.dtype.kind, f"records ({array.dtype})")


class Caster:
    """Casts inputs to what one model takes, and notes each kind of cast once."""

    def __init__(self, program: Program, notes: Notes) -> None:
        """Ask the model once what it takes."""
        self._dtype = program.dtype
        self._takes_indices = program.takes_indices
        self._notes = notes

    def cast(self, value: Any, name: str, *, first: bool) -> Any:
        """The value with every tensor and array in it cast; other values as they are.

        Floats take the model's dtype. Integers stay integers (as int64) for a model that looks indices up, and for
        a later input of one dimension, such as lengths; a later boolean input is a mask and stays one.
        """
        if isinstance(value, Mapping):
            return {key: self.cast(inner, f"{name}[{key!r}]", first=first) for key, inner in value.items()}
        if isinstance(value, (list, tuple)) and any(is_array(inner) for inner in value):
            cast = [self.cast(inner, f"{name}[{i}]", first=first) for i, inner in enumerate(value)]
            return cast if isinstance(value, list) else tuple(cast)
        return self._tensor(as_tensor(value, name), name, first=first) if is_array(value) else value

    def _tensor(self, tensor: Tensor, name: str, *, first: bool) -> Tensor:
        wanted = self._wanted(tensor, first=first)
        if wanted == tensor.dtype:
            return tensor
        text = f"{name} is cast from {_plain(tensor.dtype)} to {_plain(wanted)}, which the model takes"
        if tensor.dtype == torch.uint8 and wanted.is_floating_point:
            text += "; its values are not scaled, so scale it in the file if the model was trained on 0..1"
        self._notes.say(text)
        return tensor.to(wanted)

    def _wanted(self, tensor: Tensor, *, first: bool) -> torch.dtype:
        if tensor.is_floating_point():
            return self._dtype
        if tensor.dtype == torch.bool:
            return self._dtype if first and not self._takes_indices else torch.bool
        if tensor.dtype == torch.uint8 and tensor.dim() >= 3:
            return self._dtype  # an image, also where another part of the model looks indices up
        return torch.int64 if self._takes_indices or (not first and tensor.dim() == 1) else self._dtype


def is_array(value: object) -> bool:
    """Whether `value` is a tensor or offers itself as a numpy array (also a data frame, or another library's array)."""
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and not isinstance(value, type))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
