"""Writes a file or a folder whole or not at all: into a temporary neighbour first, renamed to the target at the end.

A device or a pipe (`/dev/null`, a FIFO, `/dev/stdout`) is written to and never replaced. For a file that is not there,
`near_file` finds the one that may have been meant.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from deadrelu.errors import OutputError
from deadrelu.text.spelling import did_you_mean

_PATIENCE = 60


def check_writable(path: Path, *, force: bool) -> None:
    """Raise `OutputError` if `path` cannot become a file: asked before the work, not after it."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file in it")
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise OutputError(f"{path} is not writable", hint="change its rights, or name a file")
        return
    _check_place(path, force=force)


def check_folder_writable(path: Path, *, mark: str, force: bool) -> None:
    """Raise `OutputError` if `path` cannot become a folder; with `force` it may be one that holds a file `mark`.

    So a slip of the pen beside `--force` does not remove a folder of something else.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file", hint="name a folder: what is written here is one")
    if path.exists() and not (path / mark).is_file():
        raise OutputError(f"{path} is a folder without {mark}", hint="give another name: it is never overwritten")
    _check_place(path, force=force)


def _check_place(path: Path, *, force: bool) -> None:
    """What must hold of the place of a file and of a folder alike."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", hint="give another name, or --force to overwrite it")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder", hint=f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} is not writable", hint="name a folder of your own, or change its rights")


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well it takes the place of `path` in one step.

    An error, also Ctrl-C, removes the temporary file and leaves `path` as it was. Raises `OutputError` where the
    system refuses.
    """
    check_writable(path, force=force)
    if _is_stream(path):
        with _copied_to(path) as temporary:
            yield temporary
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}", hint="look at the disk and at the rights"
        ) from error


@contextmanager
def replacing_folder(path: Path, *, mark: str, force: bool) -> Iterator[Path]:
    """An empty temporary folder beside `path`; when the block ends well it takes the place of `path`.

    A folder that is there already (`check_folder_writable`) is moved aside first and removed last: a rename does not
    replace a full folder. An error, also Ctrl-C, removes the temporary folder and leaves `path` as it was. Raises
    `OutputError` where the system refuses.
    """
    check_folder_writable(path, mark=mark, force=force)
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        aside = temporary.with_suffix(".old")
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                os.rename(path, aside)
            try:
                os.rename(temporary, path)
            except BaseException:
                if aside.exists():
                    os.rename(aside, path)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}", hint="look at the disk and at the rights"
        ) from error


def encoded(text: str) -> bytes:
    r"""The text in UTF-8; a lone surrogate, of a name that is not UTF-8, as `\udcff`, which JSON reads back."""
    return text.encode("utf-8", errors="backslashreplace")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process that uses this lock waiting: who reads `path`, changes it and writes it loses nothing.

    The lock is a file beside `path`, `.NAME.lock`, which stays there. Raises `OutputError` after `_PATIENCE` seconds.
    """
    from filelock import FileLock, Timeout  # not for `deadrelu --help`

    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock, timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise OutputError(
            f"{path} is being written by another process for {_PATIENCE} seconds", hint="wait for it, and try again"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"{lock} cannot be locked: {error}", hint="look at the disk and at the rights") from error


def write_text(path: Path, text: str, *, force: bool) -> None:
    """Write `text` as UTF-8, with the line ends that it has."""
    with replacing(path, force=force) as temporary:
        temporary.write_bytes(encoded(text))


def near_file(path: Path, folder: Path = Path()) -> str:
    """`did you mean NAME?` for a file that is not there; empty if none beside it is alike, seen from `folder`."""
    try:
        known = os.listdir(folder / path.parent)
    except OSError:
        known = []
    return did_you_mean(path.name, known, write=str(path.parent / "{}"))


def _is_stream(path: Path) -> bool:
    """Whether a path exists and is not a regular file: a device, a pipe, or a name for what a process has open."""
    return path.exists() and not path.is_dir() and (not path.is_file() or path.is_relative_to("/dev"))


@contextmanager
def _copied_to(stream: Path) -> Iterator[Path]:
    """A temporary path, which is written into `stream` when the block ends well."""
    try:
        with tempfile.TemporaryDirectory(prefix="deadrelu-") as folder:
            temporary = Path(folder) / "output"
            temporary.touch()
            yield temporary
            with temporary.open("rb") as source, _opened(stream) as target:
                shutil.copyfileobj(source, target)
    except OSError as error:
        raise OutputError(
            f"{stream} cannot be written: {error.strerror or error}", hint="look at what reads from it"
        ) from error


def _opened(stream: Path) -> BinaryIO:
    """A stream to write to. Of what this process has open already a duplicate: it goes on where that stands."""
    own = re.fullmatch(r"/dev/(?:fd/(\d+)|stdout|stderr)", str(stream))
    if own is None:
        return stream.open("wb", buffering=0)
    number = int(own[1]) if own[1] else 1 if stream.name == "stdout" else 2
    return os.fdopen(os.dup(number), "wb", buffering=0)


def _umask() -> int:
    """The process's file mode mask; asking means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
