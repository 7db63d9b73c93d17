"""`deadrelu suggest`: what to do about each sick site, from a model or from a report that was saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

import deadrelu
from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import OUTPUT
from deadrelu.cli.outputs import show_plain
from deadrelu.cli.run import run_of
from deadrelu.cli.saved_reports import saved_report
from deadrelu.cli.usage_errors import name_of
from deadrelu.cli.values import read_number
from deadrelu.errors import ExitCode, UsageError
from deadrelu.judge.certain import with_proof
from deadrelu.judge.policy import Policy
from deadrelu.remedy.suggest import check_slope
from deadrelu.render import advice as markdown
from deadrelu.render.formats import PLAIN, Format
from deadrelu.render.terminal import advice as rendering

_output = o.option_in(OUTPUT)
_OF_A_REPORT = ("model", "slope", "format", "full", "quiet")
"""The parameters that mean something where nothing is scanned."""


@command(ModelCommand)
def suggest(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model as for scan, or a JSON report that scan wrote.")
    ] = "",
    rare_below: o.RareBelowOption = 0.01,
    confidence: o.ConfidenceOption = 0.95,
    slope: Annotated[
        float,
        _output(metavar="NUMBER", parser=read_number, help="Slope below 0 of the leaky ReLUs to suggest."),
    ] = 0.01,
    format: Annotated[
        Format, o.choice((*PLAIN, Format.MARKDOWN), "--format", help="Format of stdout.", panel=OUTPUT)
    ] = Format.TABLE,
    prove: o.ProveOption = False,
    full: Annotated[bool, _output("--full", help="Show each site with all its remedies.")] = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Say what to do about each sick site of MODEL: why, the command, the edit of the source."""
    run = run_of(context, quiet=quiet)
    check_slope(slope)
    saved = saved_report(model)
    if saved is None:
        report = run.scan(model, policy=Policy(rare_below=rare_below, confidence=confidence))
        report = with_proof(report, run.prove(model) if prove else None)
    else:
        if flags := list(_scan_flags(context)):
            raise UsageError(
                f"{model} is a report, so that {flags[0]} has no effect", hint=f"leave out {' '.join(flags)}"
            )
        report = saved
    advice = deadrelu.suggest(report, slope=slope)
    if format is Format.MARKDOWN:
        console.write(markdown.render(advice, full=full))
    else:
        show_plain(format, advice.to_dict(), lambda screen: rendering.render(advice, screen, full=full))
    if not report.sites:
        return ExitCode.NOTHING_MEASURED
    return ExitCode.OK


def _scan_flags(context: typer.Context) -> Iterator[str]:
    """The flags on the command line that only a scan would read."""
    command: Any = context.command
    for parameter in command.keyed.values():
        source = context.get_parameter_source(parameter.name)
        if parameter.name not in _OF_A_REPORT and source is not None and source.name == "COMMANDLINE":
            yield name_of(parameter)
