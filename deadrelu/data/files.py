"""Read arrays from a file, by its content and without running any code in it."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from deadrelu.errors import DataError, FileError
from deadrelu.files.archive import check_archive, check_entries
from deadrelu.files.pickles import check_fillings
from deadrelu.text.wording import count

_LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f920")
_SAVE = "save plain arrays: numpy.savez('data.npz', x=x), or torch.save({'x': x}, 'data.pt') with tensors"
_BOMB = 1 << 26
_MOST_PACKED = 200
_FOREIGN = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the data itself", "fetch it with `git lfs pull`"),
    (b"<!DOCTYPE", "is a web page, not data", "download the file itself"),
    (b"<html", "is a web page, not data", "download the file itself"),
    (b"\x89HDF", "is an HDF5 file, which is not read", _SAVE),
    (b"PAR1", "is a Parquet file, which is not read", _SAVE),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip or tar"),
    (b"\xff\xd8\xff", "is a single image", "give the folder that holds the images"),
    (b"\x89PNG", "is a single image", "give the folder that holds the images"),
)


def read_arrays(path: Path) -> Mapping[str, Any] | tuple[Any, ...]:
    """The arrays in a `.npy`, `.npz`, `.pt` or safetensors file, named if the file names them.

    What the file is, its bytes decide. A `.npy` and a torch zip stay on disk as memory maps; the arrays of a `.npz`
    are read when they are asked for. Nothing that is pickled in the file is run.

    Raises `DataError` for anything else: a pickle, a pointer, a web page, an empty or a cut file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        return _read(path, head)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it does not fit into memory"
        raise DataError(f"{path} cannot be read: {reason}", hint="check the path and the permissions") from error


def _read(path: Path, head: bytes) -> Mapping[str, Any] | tuple[Any, ...]:
    if not head:
        raise DataError(f"{path} is empty", hint="write or download it again")
    for magic, what, hint in _FOREIGN:
        if head.lstrip().lower().startswith(magic.lower()):
            raise DataError(f"{path} {what}", hint=hint)
    if head.startswith(b"\x93NUMPY"):
        return (_read_npy(path),)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip(path)
    if head.startswith(_LEGACY_TORCH):
        return _read_torch(path, mmap=False)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise DataError(f"{path} is a pickle, which can run code and so is not read", hint=_SAVE)
    if len(head) > 8 and head[8:9] == b"{":
        return _read_safetensors(path, head)
    raise DataError(f"{path} is not a data file that deadrelu reads (.npy, .npz, .pt, .safetensors)", hint=_SAVE)


def _is_utf8(path: Path) -> bool:
    """Whether torch and safetensors, which are C++ and Rust, can open the file by its name."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split())[:120]
    return DataError(f"{path} is cut short or damaged: {reason}", hint="write or download it again")


def _pickled(path: Path) -> DataError:
    return DataError(f"{path} holds pickled objects, which can run code and so are not read", hint=_SAVE)


def _read_npy(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy reads a header with Python's own parser, which raises whatever it likes
        if "object" in str(error).lower():
            raise _pickled(path) from error
        try:
            array = np.load(path, allow_pickle=False)  # an empty array cannot be mapped
        except Exception:
            raise _broken(path, error) from error
        return array


class _Npz(Mapping[str, Any]):
    """The arrays of a `.npz`, each read when it is first asked for, and kept."""

    def __init__(self, path: Path) -> None:
        """Read the names only."""
        self._path = path
        try:
            self._file = np.load(path, allow_pickle=False)
        except Exception as error:
            raise _broken(path, error) from error
        self._kept: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._kept:
            try:
                self._kept[name] = self._file[name]
            except Exception as error:
                pickled = "object" in str(error).lower()
                raise (_pickled(self._path) if pickled else _broken(self._path, error)) from error
            if not isinstance(self._kept[name], np.ndarray):  # NumPy returns other members as bytes
                raise _broken(self._path, ValueError(f"{name} is not an array"))
        return self._kept[name]

    def __iter__(self) -> Any:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


def _read_zip(path: Path) -> Mapping[str, Any] | tuple[Any, ...]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_entries(file, members)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _broken(path, error) from error
    names = [member.filename for member in members]
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or "archive_format" in inner:
        raise DataError(f"{path} is a model, not data", hint="give it as MODEL, and the data with --data")
    if "data.pkl" in inner:
        try:
            check_archive(path)  # torch does not: it would give the altered numbers
        except FileError as error:
            raise DataError(error.message, hint="write or download it again") from error
        return _read_torch(path, mmap=True)
    if all(name.endswith(".npy") for name in names):
        _check_members(path, members)
        return _Npz(path)
    raise DataError(f"{path} is a zip of other files, which is not read", hint="unpack it; " + _SAVE)


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a `.npz` that holds a name twice, or that a few bytes would make gigabytes of."""
    if len({member.filename for member in members}) < len(members):
        raise DataError(f"{path} holds two arrays under one name", hint="write it again with numpy.savez")
    for member in members:
        if member.file_size > max(_BOMB, member.compress_size * _MOST_PACKED):
            raise DataError(
                f"{path} claims {member.file_size} bytes for {member.filename}, packed into {member.compress_size}",
                hint="if that is meant, write it with numpy.savez, uncompressed",
            )


def _read_torch(path: Path, *, mmap: bool) -> Mapping[str, Any] | tuple[Any, ...]:
    try:
        check_fillings(path, str(path))
    except FileError as error:
        raise DataError(error.message, hint="write or download it again") from error
    try:
        with path.open("rb") as file:
            mapped = mmap and _is_utf8(path)
            held = torch.load(path if mapped else file, weights_only=True, mmap=mapped, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise _unsafe(path) from error
    except Exception as error:
        raise _broken(path, error) from error
    if isinstance(held, Tensor):
        return (held,)
    if isinstance(held, Mapping):
        tensors = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    if isinstance(held, tuple | list) and held and all(isinstance(value, Tensor) for value in held):
        if len(held) <= 8:
            return tuple(held)
        raise DataError(
            f"{path} holds a list of {count(len(held), 'tensor')}",
            hint="stack the samples: torch.save(torch.stack(x), path)",
        )
    raise DataError(f"{path} holds a {type(held).__name__} without tensors at its top", hint=_SAVE)


def _unsafe(path: Path) -> DataError:
    """Why a torch file was refused: the classes that it asks for, where they can be listed without running it."""
    try:
        asked = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file made to confuse the reader: then the names are not known
        asked = []
    if not asked:
        return _pickled(path)
    if any(name.startswith("torch.nn.modules.") for name in asked):
        hint = "this looks like a model: give it as MODEL, and the data with --data"
    elif any(name.endswith("TensorDataset") for name in asked):
        hint = "save its tensors: torch.save(dataset.tensors, 'data.pt')"
    else:
        hint = _SAVE
    listed = ", ".join(asked[:3]) + (" and more" if len(asked) > 3 else "")
    return DataError(f"{path} asks for code, {listed}, and so is not read", hint=hint)


def _read_safetensors(path: Path, head: bytes) -> Mapping[str, Any]:
    (length,) = struct.unpack("<Q", head[:8])
    if length > path.stat().st_size - 8:
        raise DataError(f"{path} is cut short or no safetensors file", hint="write or download it again")
    try:
        if not _is_utf8(path):
            return safetensors.torch.load(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping
    except Exception as error:
        raise _broken(path, error) from error
