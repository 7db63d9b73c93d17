"""The style and the script of the page, which ship as files."""

from __future__ import annotations

from importlib.resources import files


def asset(name: str) -> str:
    """Return the text of such a file."""
    return files("deadrelu.render.webpage").joinpath(name).read_text(encoding="utf-8")
