"""`deadrelu patch`: swap what is dead for what leaks, write it, and prove it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import deadrelu
from deadrelu.activations import REPLACEMENTS
from deadrelu.api import default_output
from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.scanning import Asked, asking
from deadrelu.errors import ExitCode
from deadrelu.render.proof import ProofFormat, as_json, render

_WHAT = "What to swap"
_GRAPHS = ("torchscript", "torch-export")
_EXPORT = (
    "the reasons stand above; --to pt2 exports the model with torch.export first, and swaps single calls and functions"
)
Replacement = Enum("Replacement", {name.upper(): name for name in REPLACEMENTS}, type=str)  # type: ignore[misc]  # mypy wants a literal


class Target(str, Enum):
    """What a model can be turned into on the way."""

    PT2 = "pt2"


@asking(without=("site", "skip_site", "device_map"))
def patch(
    model: o.ModelArgument,
    asked: Asked,
    slope: Annotated[
        float, typer.Option(metavar="NUMBER", help="The slope of the leak, below 0.", rich_help_panel=_WHAT)
    ] = 0.01,
    sites: Annotated[
        list[str],
        typer.Option(metavar="WHICH", help="dead (default), all, or a glob. Repeatable.", rich_help_panel=_WHAT),
    ] = ["dead"],  # noqa: B006
    to: Annotated[
        Replacement, typer.Option("--with", help="What takes the place of a ReLU.", rich_help_panel=_WHAT)
    ] = Replacement("leaky_relu"),  # noqa: B008
    only_dead_units: Annotated[
        bool,
        typer.Option("--only-dead-units", help="Leave the live units as they are, to the bit.", rich_help_panel=_WHAT),
    ] = False,
    reinit: Annotated[
        bool,
        typer.Option("--reinit", help="Restart the dead units without moving the output.", rich_help_panel=_WHAT),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Where to write; MODEL.patched.pt.", rich_help_panel="Output"
        ),
    ] = None,
    to_format: Annotated[
        Target | None,
        typer.Option(
            "--to", help="pt2: export the model first; functional calls are swapped too.", rich_help_panel="Output"
        ),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only show what would change.", rich_help_panel="Output")
    ] = False,
    format: Annotated[
        ProofFormat, typer.Option(help="What goes to stdout.", rich_help_panel="Output")
    ] = ProofFormat.TABLE,
    force: o.Force = False,
) -> None:
    """Swap the ReLUs of MODEL that have dead units for leaky ones, and prove what that changed."""
    result = asked.patch(
        model,
        output or default_output(model, to_pt2=to_format is Target.PT2),
        to_pt2=to_format is Target.PT2,
        slope=slope,
        to=to.value,
        sites=sites,
        only_dead_units=only_dead_units,
        reinit=reinit,
        preview=diff,
        force=force,
    )
    if format is ProofFormat.JSON:
        console.write(as_json(result))
    else:
        screen = console.screen()
        console.write(render(result, width=screen.width, color=screen.color, unicode=screen.unicode))
    if result.refused and not result.changes:
        can_export = result.format not in _GRAPHS and to_format is None and not only_dead_units and not reinit
        raise deadrelu.DeadreluError(
            "none of the sites that were asked for can be swapped in the file",
            hint=_EXPORT if can_export else "the reasons stand above",
        )
    raise typer.Exit(int(ExitCode.OK))
