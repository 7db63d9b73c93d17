"""Saved reports: recognised by their bytes, and read without torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from deadrelu.errors import FileError
from deadrelu.report import Report

_FIRST = 64
"""Bytes that hold the first key of a JSON file."""


def read_report(path: Path) -> Report:
    """The JSON report in a file. Raises `FileError` if there is none."""
    text = report_text(path)
    if text is None:
        missing = "there is no file" if not path.exists() else "there is no JSON report in"
        raise FileError(f"{missing} {path}", hint="write one with `deadrelu scan MODEL -o json=report.json`")
    return _named(path, text)


def saved_report(path: str) -> Report | None:
    """The same, or None if the file is something else: a model to scan."""
    text = report_text(Path(path))
    return None if text is None else _named(Path(path), text)


def report_text(path: Path) -> str | None:
    """The text of the file if its bytes are those of a JSON report, otherwise None. A baseline is an error.

    A safetensors file may begin with the same brace, by the length of its header; but NUL bytes follow.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(_FIRST)
            if b"\0" in head or not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return None
            content = head + file.read()
        if b'"deadrelu_baseline"' in content[:_FIRST]:
            raise FileError(
                f"{path} is a baseline: it records known dead units, not a scan",
                hint=f"compare a model with it by `deadrelu scan MODEL --baseline {shlex.quote(str(path))}`",
            )
        return content.decode("utf-8-sig") if b'"schema_version"' in content else None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    except UnicodeDecodeError:
        return None


def _named(path: Path, text: str) -> Report:
    """The report, or an error that names its file."""
    try:
        return Report.from_json(text)
    except FileError as error:
        raise FileError(f"{path}: {error.message}", hint=error.hint) from error
