"""`deadrelu report`: a saved report in another format, without the model and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.outputs import check_outputs, show, write_outputs
from deadrelu.cli.saved_reports import read_report
from deadrelu.render.formats import Format


@command()
def report(
    saved: Annotated[Path, typer.Argument(metavar="REPORT.json", help="A JSON report that `scan` or `merge` wrote.")],
    format: o.ReportFormatOption = Format.TABLE,
    output: o.OutputOption = [],
    units: o.UnitsOption = [],
    full: o.FullOption = False,
    force: o.ForceOption = False,
) -> None:
    """Render a saved report again; its verdict stays what it was, and the exit code is 0."""
    outputs = check_outputs(output, force=force)
    again = read_report(saved)
    write_outputs(again, outputs, force=force)
    show(again, format, units, full=full)
