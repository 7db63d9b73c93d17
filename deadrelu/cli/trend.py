"""`deadrelu trend`: how the dead share of each site went over the checkpoints of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.outputs import show_plain
from deadrelu.cli.run import run_of
from deadrelu.cli.saved_reports import saved_report
from deadrelu.errors import ExitCode
from deadrelu.judge.policy import Policy
from deadrelu.judge.trend import trend as line_up
from deadrelu.render.formats import Format
from deadrelu.render.terminal import trend as rendering


@command(ModelCommand)
def trend(
    context: typer.Context,
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT", help="Models as for scan, or JSON reports, in order.")
    ],
    format: o.PlainFormatOption = Format.TABLE,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Scan each CHECKPOINT on the same data and show how the dead share of each site changed."""
    run = run_of(context, quiet=quiet)
    trend = line_up([(each, saved_report(each) or run.scan(each, policy=Policy())) for each in checkpoints])
    show_plain(format, trend.to_dict(), lambda screen: rendering.render(trend, screen))
    return ExitCode.OK if trend.lines else ExitCode.NOTHING_MEASURED
