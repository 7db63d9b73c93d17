"""Finds the user's line of a call in the stack traces that a saved graph carries as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from deadrelu.programs.callsites import display_path
from deadrelu.report import Source

Frame = tuple[str, int]
"""A file, by its path on the machine that saved the graph, and a line in it."""

_PYTHON = re.compile(r'File "([^"]+)", line (\d+)')
_TRACED = re.compile(r"^\s*(.+)\((\d+)\): \S+$")
_TORCH = re.compile(r"[\\/]torch[\\/](?:\w+[\\/])*\w+\.py$")
_MODULES = re.compile(r"[\\/]torch[\\/]nn[\\/]modules[\\/](?!module\.py$|container\.py$)\w+\.py$")


def python_frames(text: str) -> list[Frame]:
    """The frames of a Python traceback, innermost first."""
    return [(file, int(line)) for file, line in _PYTHON.findall(text)][::-1]


def script_frames(text: str) -> list[Frame]:
    """The frames of a TorchScript source range, innermost first: one of scripted code, a whole stack of traced code.

    What follows "Serialized" is torch's own rendering of the graph.
    """
    return list(_script_frames(text.partition("Serialized ")[0]))


def _script_frames(text: str) -> Iterator[Frame]:
    for row in text.splitlines():
        if found := _PYTHON.search(row) or _TRACED.match(row):
            yield found[1], int(found[2])


def source_in(frames: Iterable[Frame]) -> Source | None:
    """The innermost frame in the user's code; None if there is none, or one of torch's own layers makes the call."""
    for file, line in frames:
        if _MODULES.search(file):
            return None
        if file.startswith("<") or _TORCH.search(file):
            continue
        return Source(file=display_path(str(Path(file))), line=line)
    return None
