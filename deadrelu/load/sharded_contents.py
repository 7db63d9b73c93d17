"""What the folder of a sharded checkpoint holds, read off its index without unpickling it; and its hash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from deadrelu.errors import FileError
from deadrelu.load.trust import sha256_of
from deadrelu.load.unpickling.pickled import Described, Pickled, members
from deadrelu.load.unpickling.stub import Stub, StubClass

INDEX = ".metadata"
_AGAIN = "copy or download the folder again"


def read_index(folder: Path) -> bytes:
    """The bytes of the index. Raises `FileError` if it cannot be read."""
    try:
        return (folder / INDEX).read_bytes()
    except OSError as error:
        raise FileError(f"{folder / INDEX} cannot be read: {error.strerror or error}", hint=_AGAIN) from error


def sha256_of_folder(folder: Path, index: bytes) -> str:
    """One hash for the bytes of the index and all shards: of the lines that `sha256sum` prints for them, by name.

    By hand: `cd FOLDER && LC_ALL=C sha256sum .metadata *.distcp | sha256sum`.
    """
    lines = f"{hashlib.sha256(index).hexdigest()}  {INDEX}\n".encode()
    for path in shards_of(folder):
        lines += f"{sha256_of(path)}  ".encode() + os.fsencode(path.name) + b"\n"
    return hashlib.sha256(lines).hexdigest()


def shards_of(folder: Path) -> list[Path]:
    """The shards of a folder, by name."""
    return sorted(folder.glob("*.distcp"))


def tensors_in(index: Pickled) -> dict[str, Described]:
    """The tensors that the index lists, by key. Raises `FileError` if it is no such index."""
    listed = _state(index.root).get("state_dict_metadata")
    if not isinstance(listed, dict):
        raise FileError(f"{INDEX} is not the index of a sharded checkpoint", hint=_AGAIN)
    found: dict[str, Described] = {}
    for key, held in members(listed):
        state = _state(held)
        if isinstance(state.get("size"), tuple):
            found[key] = Described(state["size"], _dtype(state.get("properties")))
    return found


def _state(value: Any) -> dict[str, Any]:
    return value.state if isinstance(value, Stub) and isinstance(value.state, dict) else {}


def _dtype(properties: Any) -> str:
    """The dtype of a tensor: the first of its properties."""
    state = properties.state if isinstance(properties, Stub) else None
    first = state[0] if isinstance(state, tuple) and state else _state(properties).get("dtype")
    return first.path.removeprefix("torch.") if isinstance(first, StubClass) else "unknown"
