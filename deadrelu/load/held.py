"""A private copy of a model file, made while it is hashed: the bytes that are hashed are the bytes that are loaded.

Nothing that happens to the file afterwards reaches the copy, so a training job may save over it while a scan runs.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from deadrelu.errors import FileError
from deadrelu.load.trust import Origin

_PIECE = 1 << 20
_SHARE = 0.5
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@contextmanager
def held(path: Path) -> Iterator[Origin]:
    """Copy and hash the file in one pass; the copy is open for the block, and tensors mapped from it outlive that.

    The copy lies in memory, or in a temporary file (see `TMPDIR`) where it would take more than half of what is free.
    Raises `FileError` if the file cannot be read, or is written to meanwhile.
    """
    with _room(path) as (copy, place):
        sha256 = _copied(path, copy)
        yield Origin(path, sha256, place)


@contextmanager
def unchanged(*paths: Path) -> Iterator[None]:
    """Raise `FileError` at the end of the block if one of the files is not what it was at its beginning."""
    before = [_stamp(path) for path in paths]
    yield
    for path, stamp in zip(paths, before, strict=True):
        if _stamp(path) != stamp:
            raise _changed(path)


def _copied(path: Path, copy: BinaryIO) -> str:
    """Copy the file and return its SHA-256."""
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            before = _identity(os.fstat(file.fileno()))
            while piece := file.read(_PIECE):
                digest.update(piece)
                _write(path, copy, piece)
            if _identity(os.fstat(file.fileno())) != before:
                raise _changed(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    return digest.hexdigest()


def _write(path: Path, copy: BinaryIO, piece: bytes) -> None:
    """Add to the copy. Raises `FileError` where there is no room for it."""
    try:
        copy.write(piece)
    except OSError as error:
        raise _no_room(path, error) from error


@contextmanager
def _room(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty private file, and the path under which torch can open and map it."""
    size = path.stat().st_size if path.is_file() else 0
    if hasattr(os, "memfd_create") and size <= _SHARE * _free_memory():
        with os.fdopen(os.memfd_create("deadrelu"), "wb", buffering=0) as file:
            place = Path(f"/proc/self/fd/{file.fileno()}")
            if place.exists():
                yield file, place
                return
    try:
        descriptor, name = tempfile.mkstemp(prefix="deadrelu-")
    except OSError as error:
        raise _no_room(path, error) from error
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file, Path(name)
    finally:
        with suppress(OSError):  # Windows keeps a file that is still mapped
            os.unlink(name)


def _free_memory() -> int:
    """How many bytes this process could still take: what the system has available, or its container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # absent, or "max"
            free = min(free, int(path.read_text(encoding="ascii")))
    return free


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced. Raises `FileError` if it is gone."""
    try:
        status = path.stat()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    return (status.st_dev, status.st_ino, *_identity(status))


def _identity(status: os.stat_result) -> tuple[int, int]:
    """What changes when an open file is written to; not its ctime, which another name for it changes too."""
    return status.st_size, status.st_mtime_ns


def _changed(path: Path) -> FileError:
    return FileError(f"{path} changed while it was read", hint="wait until nothing writes to it, and try again")


def _no_room(path: Path, error: OSError) -> FileError:
    return FileError(
        f"there is no room for a private copy of {path}: {error.strerror or error}",
        hint="name a folder on a larger disk with TMPDIR",
    )
