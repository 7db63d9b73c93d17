"""The formats by name; each finds its own renderer."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from deadrelu.report import Report


class Format(str, Enum):
    """What a report can be written as. The value is the name on the command line."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    GITLAB = "gitlab"
    HTML = "html"

    @property
    def render(self) -> Callable[[Report], str]:
        """The function that renders a report so; imported when asked for, because scripts need no terminal library."""
        from deadrelu.render import github, gitlab, html, json, junit, markdown, sarif
        from deadrelu.render.terminal import table

        return {
            Format.TABLE: table.render,
            Format.JSON: json.render,
            Format.MARKDOWN: markdown.render,
            Format.SARIF: sarif.render,
            Format.JUNIT: junit.render,
            Format.GITHUB: github.render,
            Format.GITLAB: gitlab.render,
            Format.HTML: html.render,
        }[self]


SUFFIXES = {
    ".sarif.json": Format.SARIF.value,
    ".sarif": Format.SARIF.value,
    ".json": Format.JSON.value,
    ".md": Format.MARKDOWN.value,
    ".xml": Format.JUNIT.value,
    ".html": Format.HTML.value,
    ".txt": Format.TABLE.value,
}
"""The format that the end of a file's name stands for; the first that fits counts."""
