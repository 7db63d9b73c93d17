"""`deadrelu prune`: the same model without its dead units."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import OUTPUT, SWAP
from deadrelu.cli.model_options import axis_options, data_options, model_options, site_options
from deadrelu.cli.outputs import show_plain
from deadrelu.cli.proof_options import BoxOption, MarginOption
from deadrelu.cli.run import run_of
from deadrelu.cli.values import read_box
from deadrelu.errors import DeadreluError, ExitCode
from deadrelu.remedy.outputs import default_output
from deadrelu.render.formats import Format
from deadrelu.render.terminal.pruned import render
from deadrelu.report.commands import next_scan

_what, _output = map(o.option_in, (SWAP, OUTPUT))


class PruneCommand(ModelCommand):
    """Prune takes one model."""

    shared = (model_options, data_options, site_options, axis_options)
    takes_every_model = False


@command(PruneCommand)
def prune(
    context: typer.Context,
    model: o.ModelArgument = "",
    *,
    proved: Annotated[
        bool, _what("--proved", help="Remove only units that are proved dead for every input of --box.")
    ] = False,
    box: BoxOption = "data",
    margin: MarginOption = 0.0,
    rounding: Annotated[
        bool, _what("--rounding", help="Let outputs change by what smaller layers round differently.")
    ] = False,
    linearise: Annotated[
        bool, _what("--linearise", help="Merge units that are proved always on for every input of --box.")
    ] = False,
    output: Annotated[
        Path | None,
        _output("--output", "-o", metavar="PATH", help="Where to write the model. Default: MODEL.pruned.pt."),
    ] = None,
    format: o.PlainFormatOption = Format.TABLE,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Write MODEL without its dead units: the same outputs, to the last bit, from smaller layers."""
    run = run_of(context, quiet=quiet)
    result = run.prune(
        model,
        output or default_output(model, variant="pruned"),
        proved=proved,
        box=read_box(box),
        margin=margin,
        rounding=rounding,
        linearise=linearise,
        force=force,
    )
    if result.output is not None and not result.layers_in_code:
        trust = [f"--trust-sha256={result.sha256}"] if result.needs_trust else []
        code = [f"--arch={result.needs_arch}"] if result.needs_arch is not None else []
        words = (*context.obj.of_model, *run.invocation)
        result = replace(result, next_command=next_scan(words, result.output, *code, *trust))
    show_plain(format, result.to_dict(), lambda screen: render(result, screen))
    if result.output is None and any(site.kept for site in result.sites):
        raise DeadreluError("none of the dead units can be removed", hint="see the reasons above")
    return ExitCode.OK
