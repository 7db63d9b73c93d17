"""`deadrelu inspect`: what a model file is, what it would run and what it holds; nothing in it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.completion import offer_outputs
from deadrelu.cli.general import OUTPUT
from deadrelu.cli.values import output_paths
from deadrelu.files.writing import check_writable, write_text
from deadrelu.render.formats import PLAIN, Format
from deadrelu.render.terminal.screen import Screen

_output = o.option_in(OUTPUT)


@command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file, or the folder of one.")],
    format: o.PlainFormatOption = Format.TABLE,
    output: Annotated[
        list[str],
        _output(
            "--output",
            "-o",
            metavar="[FORMAT=]PATH",
            autocompletion=offer_outputs(PLAIN),
            help="Also write this to a file: table (.txt) or json (.json). Repeatable.",
        ),
    ] = [],
    full: Annotated[bool, _output("--full", help="Show everything, with nothing left out.")] = False,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Say what FILE is, what it would run, and what it holds, without running any of it."""
    outputs = output_paths(output, PLAIN)
    for _, path in outputs:
        check_writable(path, force=force)

    from deadrelu.load.inspection.inspect import inspect as look
    from deadrelu.render.terminal import inspection

    with console.user_code(quiet=quiet):
        found = look(file)

    def drawn(format: Format, screen: Screen) -> str:
        return found.to_json() if format is Format.JSON else inspection.render(found, screen, full=full)

    for kind, path in outputs:
        write_text(path, drawn(kind, Screen()), force=force)
    console.write(drawn(format, console.current_screen()))
