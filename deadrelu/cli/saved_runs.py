"""Watched runs: recognised by their first line, and read without torch, also while they are written."""

from __future__ import annotations

from pathlib import Path

from deadrelu.errors import FileError
from deadrelu.report.run import WatchedRun, Window, joined, read_line, read_run

_FIRST = 64
"""Bytes that hold the first key of a line."""


def saved_run(path: str) -> WatchedRun | None:
    """The run in a file; None if it is something else. Raises `FileError` for a run that cannot be read."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_FIRST)
            if not head.startswith(b'{"step":'):
                return None
            text = (head + file.read()).decode("utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    try:
        return read_run(text)
    except FileError as error:
        raise FileError(f"{path}: {error.message}", hint=error.hint) from error


class FollowedRun:
    """A run that is read as far as it is written, again and again. What it says of each unit is kept of the latest."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet; the file need not be there."""
        self._path = path
        self._at, self._rest = 0, b""
        self._windows: list[Window] = []
        self._run: WatchedRun | None = None

    def read(self) -> WatchedRun | None:
        """The run as far as it is written; None before its first window. A file that became shorter is a new run."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:
                    self._at, self._rest = 0, b""
                    self._windows.clear()
                    self._run = None
                file.seek(self._at)
                *lines, self._rest = (self._rest + file.read()).split(b"\n")
                self._at = file.tell()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"{self._path} cannot be read: {error.strerror}", hint="check its permissions") from error
        windows = [read_line(line.decode("utf-8", "replace")) for line in lines if line.strip()]
        if windows:
            before = [window.without_units() for window in (*self._windows[-1:], *windows[:-1])]
            self._windows[-1:] = [*before, windows[-1]]
            self._run = joined(self._windows)
        return self._run
