"""The files that ship beside the page's pieces: style and script."""

from __future__ import annotations

from importlib.resources import files


def asset(name: str) -> str:
    """The text of such a file."""
    return files("deadrelu.render.webpage").joinpath(name).read_text(encoding="utf-8")
