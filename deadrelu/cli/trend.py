"""`deadrelu trend`: how the dead share of each site went over the checkpoints of a run, or over its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import OUTPUT
from deadrelu.cli.outputs import check_outputs, show_plain
from deadrelu.cli.run import run_of
from deadrelu.cli.saved_reports import saved_report
from deadrelu.cli.saved_runs import saved_run
from deadrelu.errors import ExitCode, UsageError
from deadrelu.files.writing import write_text
from deadrelu.judge.policy import Policy
from deadrelu.judge.trend import trend as line_up
from deadrelu.render.formats import Format
from deadrelu.render.terminal import run as run_rendering
from deadrelu.render.terminal import trend as rendering
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.run import WatchedRun
from deadrelu.report.serialisation import to_json

_FORMATS = (Format.TABLE, Format.JSON, Format.HTML)


@command(ModelCommand)
def trend(
    context: typer.Context,
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT", help="Models as for scan, or JSON reports, in order; or one RUN.jsonl."),
    ],
    format: Annotated[
        Format, o.choice(_FORMATS, "--format", help="Format of stdout; html is for RUN.jsonl.", panel=OUTPUT)
    ] = Format.TABLE,
    output: Annotated[
        list[str],
        o.option_in(OUTPUT)(
            "--output", "-o", metavar="[FORMAT=]PATH", help="Also write RUN.jsonl drawn to a file. Repeatable."
        ),
    ] = [],
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Scan each CHECKPOINT on the same data and show how the dead share of each site changed.

    One RUN.jsonl, which deadrelu.watch has written, is shown window by window.
    """
    runs = [saved_run(each) for each in checkpoints]
    if len(runs) == 1 and runs[0] is not None:
        _show_run(runs[0], checkpoints[0], format, output, force=force)
        return ExitCode.OK
    if any(run is not None for run in runs):
        raise UsageError("a run is shown by itself, without checkpoints or other runs", hint="deadrelu trend RUN.jsonl")
    if format is Format.HTML or output:
        raise UsageError("only RUN.jsonl can be written to a file or as html", hint="leave -o and --format html out")
    run = run_of(context, quiet=quiet)
    trend = line_up([(each, saved_report(each) or run.scan(each, policy=Policy())) for each in checkpoints])
    show_plain(format, trend.to_dict(), lambda screen: rendering.render(trend, screen))
    return ExitCode.OK if trend.lines else ExitCode.NOTHING_MEASURED


def _show_run(run: WatchedRun, path: str, format: Format, output: list[str], *, force: bool) -> None:
    """Write a run to files and to stdout."""
    outputs = check_outputs(output, force=force)
    for kind, file in outputs:
        if kind not in _FORMATS:
            raise UsageError(f"-o {file}: a run has no format {kind.value}", hint="json, html or table")
    for kind, file in outputs:
        write_text(file, _drawn(run, path, kind, Screen()), force=force)
    console.write(_drawn(run, path, format, console.current_screen()))


def _drawn(run: WatchedRun, path: str, format: Format, screen: Screen) -> str:
    """The run in a format."""
    if format is Format.JSON:
        return to_json(run.to_dict())
    if format is Format.HTML:
        from deadrelu.render.run import html

        return html.render(run, Path(path).name)
    return run_rendering.render(run, screen)
