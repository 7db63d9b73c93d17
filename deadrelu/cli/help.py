"""How `--help` looks: plain text in one layout for `deadrelu` and its commands, a section for each group of options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperArgument

from deadrelu.cli.general import PANELS

WIDEST = 100
"""Columns that a help text takes at most."""


def write_sections(ctx: Any, formatter: Any, parameters: Iterable[Any], *, others: str = "General") -> None:
    """The parameters by the sections that they name; those that name none come last, under `others`."""
    sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Arguments", *PANELS, others)}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None and isinstance(parameter, TyperArgument):
            sections["Arguments"].append((str(parameter.metavar), record[1]))  # Typer writes `<str>` behind it
        elif record is not None:
            sections[parameter.rich_help_panel or others].append(record)
    for name, records in sections.items():
        if records:
            with formatter.section(name):
                formatter.write_dl(records)


def write_examples(formatter: Any, examples: Iterable[str]) -> None:
    """Commands to copy, unwrapped."""
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"  {line}\n")
