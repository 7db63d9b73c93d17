"""The output formats by name: the one list of them.

A new format of a report takes a module `deadrelu/render/NAME.py` with `render(report: Report) -> str`, and a member
here. The command line reads its choices, its completion and the suffixes of files from this list.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from importlib import import_module

from deadrelu.report import Report


class Format(str, Enum):
    """What a report can be written as: the name on the command line, and the suffixes of files that mean it."""

    suffixes: tuple[str, ...]

    TABLE = "table", ".txt"
    JSON = "json", ".json"
    MARKDOWN = "markdown", ".md"
    SARIF = "sarif", ".sarif", ".sarif.json"
    JUNIT = "junit", ".xml"
    GITHUB = "github"
    GITLAB = "gitlab"
    HTML = "html", ".html"

    def __new__(cls, name: str, *suffixes: str) -> Format:
        """Make a member of a name and suffixes."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.suffixes = suffixes
        return member

    @property
    def render(self) -> Callable[[Report], str]:
        """The function that renders a report; imported only when used, because scripts need no terminal library.

        It is `render` in the module of the format's name; the table's is among the other pages of a terminal.
        """
        home = "terminal.table" if self is Format.TABLE else self.value
        render: Callable[[Report], str] = import_module(f"deadrelu.render.{home}").render
        return render

    @classmethod
    def of_path(cls, path: str) -> Format | None:
        """Return the format that the end of a file's name means; the longest suffix wins."""
        name = path.lower()
        fitting = ((suffix, format) for format in cls for suffix in format.suffixes if name.endswith(suffix))
        return max(fitting, key=lambda pair: len(pair[0]), default=(None, None))[1]


PLAIN = (Format.TABLE, Format.JSON)
"""The formats of what is not a report: a table for a person, or JSON for a script."""
