"""`deadrelu diff`: what changed from one model, or report, to another."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import GATE
from deadrelu.cli.outputs import show_plain
from deadrelu.cli.run import run_of
from deadrelu.cli.saved_reports import saved_report
from deadrelu.errors import ExitCode
from deadrelu.judge.compare import by_definition, compare
from deadrelu.judge.policy import Policy
from deadrelu.render.formats import Format
from deadrelu.render.terminal import diff as rendering


@command(ModelCommand)
def diff(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A JSON report, or a model as for scan.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, of the later state.")],
    fail_on: Annotated[
        Literal["worse"] | None,
        o.choice(("worse",), "--fail-on", help="worse: exit 1 if a site has more dead units than before.", panel=GATE),
    ] = None,
    definition: o.DefinitionOption = None,
    tau: o.TauOption = None,
    format: o.PlainFormatOption = Format.TABLE,
    full: o.FullOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Show which sites got worse, better, new or gone from OLD to NEW, and which units died or came back."""
    run = run_of(context, quiet=quiet)
    before, after = (saved_report(each) or run.scan(each, policy=Policy()) for each in (old, new))
    if definition is not None or tau is not None:
        before, after = (by_definition(report, definition, tau) for report in (before, after))
    comparison = compare(before, after)
    show_plain(format, comparison.to_dict(), lambda screen: rendering.render(comparison, screen, full=full))
    if not (before.sites and after.sites):
        return ExitCode.NOTHING_MEASURED
    return ExitCode.GATE_FAILED if fail_on and comparison.worse else ExitCode.OK
