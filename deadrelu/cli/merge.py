"""`deadrelu merge`: the reports of several scans of one model as the report of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.outputs import check_outputs, show, write_outputs
from deadrelu.cli.saved_reports import read_report
from deadrelu.errors import ExitCode
from deadrelu.judge.judgement import exit_code
from deadrelu.judge.merge import common_policy
from deadrelu.judge.merge import merge as merged
from deadrelu.judge.policy import parse_limit
from deadrelu.render.formats import Format


@command()
def merge(
    saved: Annotated[list[Path], typer.Argument(metavar="REPORT.json", help="JSON reports of one model.")],
    *,
    max_dead: o.MaxDeadOption = None,
    max_dead_total: o.MaxDeadTotalOption = None,
    max_saturated: o.MaxSaturatedOption = None,
    limits: o.LimitsOption = [],
    definition: o.DefinitionOption = None,
    tau: o.TauOption = None,
    exit_zero: o.ExitZeroOption = False,
    format: o.ReportFormatOption = Format.TABLE,
    output: o.OutputOption = [],
    units: o.UnitsOption = [],
    full: o.FullOption = False,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Add what several scans of one model counted, over different parts of the data, and judge the sum.

    The limits are those of the reports, unless others are given.
    """
    outputs = check_outputs(output, force=force)
    reports = [read_report(path) for path in saved]
    instead: dict[str, Any] = {
        "max_dead": max_dead,
        "max_dead_total": max_dead_total,
        "max_saturated": max_saturated,
    }
    instead["limits"] = tuple(map(parse_limit, limits)) or None
    given = {name: value for name, value in instead.items() if value is not None}
    if definition is not None or tau is not None:
        given |= {"definition": definition, "tau": tau}
    report = merged(reports, common_policy(reports, **given))
    sources = [each.data.source for each in reports]
    if not quiet and len(set(sources)) < len(sources):
        console.print_note("some reports name the same data: samples that are in two of them count twice")
    write_outputs(report, outputs, force=force)
    show(report, format, units, full=full)
    return exit_code(report, exit_zero=exit_zero)
