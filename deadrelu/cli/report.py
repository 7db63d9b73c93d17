"""`deadrelu report`: a saved report in another format, without the model and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.outputs import check_outputs, show, write_outputs
from deadrelu.cli.saved_reports import read_report
from deadrelu.judge.judgement import judge_again
from deadrelu.render.formats import Format


@command()
def report(
    saved: Annotated[Path, typer.Argument(metavar="REPORT.json", help="A JSON report that `scan` or `merge` wrote.")],
    *,
    definition: o.DefinitionOption = None,
    tau: o.TauOption = None,
    format: o.ReportFormatOption = Format.TABLE,
    output: o.OutputOption = [],
    units: o.UnitsOption = [],
    full: o.FullOption = False,
    force: o.ForceOption = False,
) -> None:
    """Render a saved report again; its verdict stays what it was, and the exit code is 0.

    With --definition it is judged again, by its own limits.
    """
    outputs = check_outputs(output, force=force)
    again = read_report(saved)
    if definition is not None or tau is not None:
        again = judge_again(again, definition, tau)
    write_outputs(again, outputs, force=force)
    show(again, format, units, full=full)
