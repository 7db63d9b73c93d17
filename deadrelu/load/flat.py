"""Read the tensors of a safetensors file: a header and bytes, with no code in it."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from torch import Tensor

from deadrelu.errors import FileError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name, on the CPU. Raises `FileError` if the file is damaged."""
    try:
        return safetensors.torch.load_file(str(path), device="cpu")
    except Exception as error:
        raise FileError(f"{path} is a damaged safetensors file: {error}", hint="copy or download it again") from error
