"""What the user's code may change in the process is put back: working folder, default dtype, grad mode, stdout."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class _Folders:
    """Where a call of ours began, and where the user's code stands since it went elsewhere."""

    ours: str
    theirs: str | None = None


class _Here(threading.local):
    folders: _Folders | None = None


_here = _Here()
_lock = threading.Lock()


@contextmanager
def restore_process_state() -> Iterator[None]:
    """One call of ours: afterwards working folder, default dtype and grad mode are as they were before it."""
    import torch

    before, dtype, grad = _here.folders, torch.get_default_dtype(), torch.is_grad_enabled()
    folders = None
    with suppress(OSError):  # a folder that is gone
        folders = _Folders(os.getcwd())
    _here.folders = folders
    try:
        yield
    finally:
        _here.folders = before
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if folders is not None:
            _go(folders.ours)


@contextmanager
def in_users_folder() -> Iterator[None]:
    """The user's code runs where it last went to; our own files are still found from where the call began."""
    folders = _here.folders
    if folders is None:
        yield
        return
    if folders.theirs is not None:
        _go(folders.theirs)
    try:
        yield
    finally:
        with suppress(OSError):
            folders.theirs = os.getcwd()
        _go(folders.ours)


def working_folder() -> Path:
    """The folder from which relative paths are read and shown."""
    return Path(_here.folders.ours) if _here.folders is not None else Path.cwd()


def _go(folder: str) -> None:
    """Change to a folder, if it is still there."""
    with suppress(OSError):
        os.chdir(folder)


class stdout_on_stderr:  # noqa: N801  entered for each batch: a generator would take longer
    """What Python code prints goes to stderr. The first thread to come turns stdout, the last to go turns it back."""

    _inside = 0
    _stdout: Any = None

    def __enter__(self) -> None:
        with _lock:
            if stdout_on_stderr._inside == 0:
                stdout_on_stderr._stdout, sys.stdout = sys.stdout, sys.stderr
            stdout_on_stderr._inside += 1

    def __exit__(self, *_: object) -> None:
        with _lock:
            stdout_on_stderr._inside -= 1
            if stdout_on_stderr._inside == 0:
                sys.stdout = stdout_on_stderr._stdout
