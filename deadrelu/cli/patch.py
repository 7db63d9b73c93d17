"""`deadrelu patch`: swap what is dead for what leaks, write it, and verify it."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

import deadrelu
from deadrelu.activations import KEEP, REPLACEMENTS
from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import OUTPUT, SWAP
from deadrelu.cli.model_options import axis_options, data_options, model_options
from deadrelu.cli.outputs import show_plain
from deadrelu.cli.run import run_of
from deadrelu.cli.values import read_number
from deadrelu.errors import ExitCode
from deadrelu.remedy.outputs import default_output
from deadrelu.render.formats import Format
from deadrelu.render.terminal.proof import render
from deadrelu.report.commands import next_scan

_GRAPHS = ("torchscript", "torch-export")
_EXPORT = (
    "see the reasons above; --to pt2 exports the model with torch.export first, and swaps single calls and functions"
)
Replacement = Enum("Replacement", {name.upper(): name for name in (*REPLACEMENTS, KEEP)}, type=str)  # type: ignore[misc]  # mypy wants a literal


_swap, _output = map(o.option_in, (SWAP, OUTPUT))


class PatchCommand(ModelCommand):
    """Patch takes one model, and sites to swap in the place of sites to measure."""

    shared = (model_options, data_options, axis_options)
    takes_every_model = False


_SlopeOption = Annotated[float, _swap(metavar="NUMBER", parser=read_number, help="Slope of the leak below 0.")]
_SiteOption = Annotated[
    list[str],
    _swap(
        metavar="GLOB",
        callback=o.split,
        help="Sites to swap: a glob, all, or dead (those with dead units). Repeatable.",
    ),
]
_ToOption = Annotated[
    Replacement,
    o.choice(
        Replacement,
        "--with",
        metavar="NAME",
        help=f"What replaces a ReLU: {', '.join(REPLACEMENTS)}; keep leaves it, for --reinit alone.",
        panel=SWAP,
    ),
]
_OnlyDeadUnitsOption = Annotated[bool, _swap("--only-dead-units", help="Leave live units exactly as they are.")]
_ReinitOption = Annotated[
    bool,
    _swap("--reinit", help="Restart dead units with new incoming weights; the output does not change."),
]
_OutputOption = Annotated[
    Path | None,
    _output("--output", "-o", metavar="PATH", help="Where to write the patched model. Default: MODEL.patched.pt."),
]
_ToFormatOption = Annotated[
    Literal["pt2"] | None,
    o.choice(
        ("pt2",),
        "--to",
        help="Export the model to .pt2 first, so that functional calls are swapped too.",
        panel=OUTPUT,
    ),
]
_DiffOption = Annotated[bool, _output("--diff", help="Show what would change, and write nothing.")]


@command(PatchCommand)
def patch(
    context: typer.Context,
    model: o.ModelArgument = "",
    *,
    slope: _SlopeOption = 0.01,
    site: _SiteOption = ["dead"],
    to: _ToOption = Replacement("leaky_relu"),
    only_dead_units: _OnlyDeadUnitsOption = False,
    reinit: _ReinitOption = False,
    output: _OutputOption = None,
    to_format: _ToFormatOption = None,
    diff: _DiffOption = False,
    format: o.PlainFormatOption = Format.TABLE,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Swap the ReLUs of MODEL that have dead units for leaky ones, and verify what that changed."""
    run = run_of(context, quiet=quiet)
    if "site" in context.obj.places and not quiet:
        console.print_note(f"patch swaps {', '.join(site)}, by {context.obj.places['site']}")
    result = run.patch(
        model,
        output or default_output(model, to_pt2=to_format == "pt2"),
        to_pt2=to_format == "pt2",
        slope=slope,
        to=str(to.value),
        sites=site,
        only_dead_units=only_dead_units,
        reinit=reinit,
        preview=diff,
        force=force,
    )
    if result.output is not None:
        trust = [f"--trust-sha256={result.sha256}"] if result.needs_trust else []
        as_before = result.opens_as_before
        code = [f"--arch={result.needs_arch}"] if result.needs_arch is not None and not as_before else []
        words = (*context.obj.of_model, *run.invocation)
        result = replace(result, next_command=next_scan(words, result.output, *code, *trust, as_before=as_before))
    show_plain(format, result.to_dict(), lambda screen: render(result, screen))
    if result.refused and not result.changes:
        can_export = result.format not in _GRAPHS and to_format is None and not only_dead_units and not reinit
        raise deadrelu.DeadreluError(
            "none of the chosen sites can be swapped in the file",
            hint=_EXPORT if can_export else "see the reasons above",
        )
    return ExitCode.OK
