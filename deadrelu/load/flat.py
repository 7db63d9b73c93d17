"""Read the tensors of a safetensors file: a header and bytes, with no code in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from deadrelu.errors import FileError
from deadrelu.load.unpickling.pickled import Described

_DTYPES = {"F": "float", "I": "int", "U": "uint", "BF": "bfloat"}


def read_safetensors(path: Path, *, named: Path | None = None) -> dict[str, Tensor]:
    """The tensors by name, on the CPU. Raises `FileError`, which names the file `named`, if it is damaged."""
    try:
        return safetensors.torch.load_file(str(path), device="cpu")
    except Exception as error:
        raise FileError(
            f"{named or path} is a damaged safetensors file: {error}", hint="copy or download it again"
        ) from error


def read_header(path: Path) -> dict[str, Described]:
    """The shape and dtype of each tensor by name; no tensor is read. Raises `FileError` if the header is damaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(min(length, path.stat().st_size)))
        return {key: _described(entry) for key, entry in entries.items() if key != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is a damaged safetensors file: {error}", hint="copy or download it again") from error


def _described(entry: Any) -> Described:
    """One entry of the header: `{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}`."""
    shape, name = tuple(entry["shape"]), str(entry["dtype"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape} is not a shape")
    letters = name.rstrip("0123456789")
    return Described(shape, f"{_DTYPES[letters]}{name[len(letters) :]}" if letters in _DTYPES else name.lower())
