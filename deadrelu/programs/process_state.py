"""Restores what the user's code may change in the process: working folder, default dtype, grad mode, stdout."""

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
    """The folder in which a call of ours began, and the one that the user's code has changed to since."""

    ours: str
    theirs: str | None = None


class _Here(threading.local):
    folders: _Folders | None = None


_here = _Here()
_lock = threading.Lock()


@contextmanager
def restore_process_state() -> Iterator[None]:
    """Restore working folder, default dtype and grad mode on leaving."""
    import torch

    before, dtype, grad = _here.folders, torch.get_default_dtype(), torch.is_grad_enabled()
    folders = None
    with suppress(OSError):  # the folder is gone
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
    """Run the user's code in the folder that it last changed to; our own files are found from where the call began."""
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
    """The folder to which relative paths belong."""
    return Path(_here.folders.ours) if _here.folders is not None else Path.cwd()


def _go(folder: str) -> None:
    """Change to a folder if it still exists."""
    with suppress(OSError):
        os.chdir(folder)


class stdout_on_stderr:  # noqa: N801  entered for each batch, and a class is faster than a generator
    """Sends what Python code prints to stderr, from when the first thread enters until the last leaves."""

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
