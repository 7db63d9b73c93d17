"""`deadrelu inspect`: what a model file is, what it would run and what it holds; nothing in it runs."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.choices import choice
from deadrelu.cli.command import command
from deadrelu.cli.complete import outputs_as
from deadrelu.cli.values import output_paths
from deadrelu.files.writing import check_writable, write_text


class View(str, Enum):
    """What an inspection can be written as."""

    TABLE = "table"
    JSON = "json"


@command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file, or the folder of one.")],
    format: Annotated[View, choice(View, "--format", help="Format of stdout.", panel=o.OUTPUT)] = View.TABLE,
    output: Annotated[
        list[str],
        typer.Option(
            "--output",
            "-o",
            metavar="[FORMAT=]PATH",
            autocompletion=outputs_as(View),
            help="Also write this to a file: table (.txt) or json (.json). Repeatable.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = [],  # noqa: B006 - Typer reads the default and never changes it
    full: Annotated[
        bool, typer.Option("--full", help="Show everything, with nothing left out.", rich_help_panel=o.OUTPUT)
    ] = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Say what FILE is, what it would run, and what it holds, without running any of it."""
    outputs = output_paths(output, View)
    for _, path in outputs:
        check_writable(path, force=force)

    from deadrelu.load.inspection.inspect import inspect as look
    from deadrelu.render.terminal import inspection

    with console.user_code(quiet=quiet):
        found = look(file)
    for name, path in outputs:
        text = found.to_json() if View(name) is View.JSON else inspection.render(found, full=full)
        write_text(path, text, force=force)
    if format is View.JSON:
        console.write(found.to_json())
        return
    screen = console.screen()
    console.write(inspection.render(found, width=screen.width, color=screen.color, unicode=screen.unicode, full=full))
