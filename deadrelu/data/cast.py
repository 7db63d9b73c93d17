"""Turn arrays into tensors, and read them in the type that the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadrelu.data.batches import Notes
from deadrelu.errors import DataError
from deadrelu.programs.program import Program
from deadrelu.programs.pytree import is_dataclass_instance, map_tensors

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


class Reading(Enum):
    """One way to read the types of what is given."""

    AS_GIVEN = auto()
    """No type is changed: the user's own batches."""

    FLOATS_CAST = auto()
    """Floats take the model's type."""

    INTEGERS_KEPT = auto()
    """A file: floats take the model's type, a first input of bytes with three axes or more is an image."""

    FIRST_CAST = auto()
    """A file: so does a first input of integers."""

    ALL_CAST = auto()
    """A file: so do all integers."""


def readings(program: Program, *, from_file: bool) -> tuple[Reading, ...]:
    """The ways to try in turn; the last is the one to fall back on if the model takes none."""
    if not from_file:
        return Reading.AS_GIVEN, Reading.FLOATS_CAST
    if program.takes_indices:
        return (Reading.INTEGERS_KEPT,)
    return Reading.INTEGERS_KEPT, Reading.FIRST_CAST, Reading.ALL_CAST


def fallback(ways: tuple[Reading, ...]) -> Reading:
    """The reading whose error is the clearest if the model takes none."""
    return Reading.FIRST_CAST if Reading.FIRST_CAST in ways else ways[0]


def as_tensor(array: Any, name: str) -> Tensor:
    """A tensor of the same values; a numpy array is copied, so that a memory map stays as it is on disk.

    Raises `DataError` for text, dates, objects and records.
    """
    if isinstance(array, Tensor):
        return array.detach()
    array = np.asarray(array)
    if array.dtype.kind not in "fiubc":
        raise DataError(
            f"{name} holds {_kind(array)}, not numbers that a model can take",
            hint="save it as a plain array of floats or integers",
        )
    widest = np.dtype(np.complex128) if array.dtype.kind == "c" else np.dtype(np.float64)
    narrow = array.dtype.newbyteorder("=") if array.dtype.itemsize <= widest.itemsize else widest
    return torch.from_numpy(np.array(array, dtype=narrow, order="C"))


def _kind(array: np.ndarray[Any, Any]) -> str:
    """What an array of no numbers holds, in words."""
    words = {"O": "Python objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
    return words.get(array.dtype.kind, f"records ({array.dtype})")


class Caster:
    """Reads inputs for one model, and notes each kind of cast once."""

    def __init__(self, program: Program, notes: Notes) -> None:
        """Ask the model once what it takes."""
        self._dtype = program.dtype
        self._takes_indices = program.takes_indices
        self._notes = notes

    def cast(self, value: Any, name: str, reading: Reading, *, first: bool) -> Any:
        """The value with every tensor and array in it read so; other values, and objects, as they are."""
        if isinstance(value, Tensor):
            return self._tensor(value, name, reading, first=first)
        if is_array(value):
            return self._tensor(as_tensor(value, name), name, reading, first=first)
        if type(value) is dict:
            return {key: self.cast(inner, f"{name}[{key!r}]", reading, first=first) for key, inner in value.items()}
        if type(value) in (list, tuple):
            cast = [self.cast(inner, f"{name}[{i}]", reading, first=first) for i, inner in enumerate(value)]
            return cast if isinstance(value, list) else tuple(cast)
        if reading is Reading.AS_GIVEN or not (isinstance(value, (Mapping, tuple)) or is_dataclass_instance(value)):
            return value
        return map_tensors(value, lambda tensor: self._tensor(tensor, name, reading, first=first))

    def _tensor(self, tensor: Tensor, name: str, reading: Reading, *, first: bool) -> Tensor:
        wanted = self._wanted(tensor, reading, first=first)
        if wanted == tensor.dtype:
            return tensor.detach()
        text = f"{name} is cast from {_plain(tensor.dtype)} to {_plain(wanted)}, which the model takes"
        if tensor.dtype == torch.uint8 and wanted.is_floating_point:
            text += "; its values are not scaled, so scale it in the file if the model was trained on 0..1"
        self._notes.say(text)
        return tensor.detach().to(wanted)

    def _wanted(self, tensor: Tensor, reading: Reading, *, first: bool) -> torch.dtype:
        if reading is Reading.AS_GIVEN:
            return tensor.dtype
        if tensor.is_floating_point():
            return self._dtype
        if reading is Reading.FLOATS_CAST:
            return tensor.dtype
        if tensor.is_complex():
            return _COMPLEX.get(self._dtype, tensor.dtype)
        if tensor.dtype == torch.bool:
            return self._dtype if first and not self._takes_indices else torch.bool
        if tensor.dtype == torch.uint8 and tensor.dim() >= 3:
            return self._dtype  # an image, also where another part of the model looks indices up
        cast = reading is Reading.ALL_CAST or (reading is Reading.FIRST_CAST and first)
        return self._dtype if cast else torch.int64


def is_array(value: object) -> bool:
    """Whether `value` is a tensor or offers itself as a numpy array (also a data frame, or another library's array)."""
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and not isinstance(value, type))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
