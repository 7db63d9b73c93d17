"""`deadrelu trial`: the same training with and without each remedy, and what is certain of the differences."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import OUTPUT
from deadrelu.cli.live import live_view
from deadrelu.cli.model_options import axis_options, data_options, model_options
from deadrelu.cli.outputs import Outputs, outputs_of
from deadrelu.cli.run import run_of
from deadrelu.cli.training_options import training_options
from deadrelu.errors import ExitCode
from deadrelu.files.writing import write_text
from deadrelu.render.formats import Format
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count

_HOMES = {Format.MARKDOWN: "trial.markdown", Format.HTML: "trial.html"}
_FORMATS = (Format.TABLE, Format.JSON, *_HOMES)


class TrialCommand(ModelCommand):
    """Trial takes one model, and trains it."""

    shared = (model_options, data_options, axis_options, training_options)
    takes_every_model = False


@command(TrialCommand)
def trial(
    context: typer.Context,
    model: o.ModelArgument = "",
    *,
    format: Annotated[Format, o.choice(_FORMATS, "--format", help="Format of stdout.", panel=OUTPUT)] = Format.TABLE,
    output: Annotated[
        list[str],
        o.option_in(OUTPUT)(
            "--output",
            "-o",
            metavar="[FORMAT=]PATH",
            help="Also write the trial to a file; model=PATH writes the trained model of the best arm. Repeatable.",
        ),
    ] = [],
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Train MODEL in several ways, everything else equal, and say which is better than keeping it."""
    run = run_of(context, quiet=quiet)
    outputs, paths = outputs_of("a trial", output, _FORMATS, "model", force=force)
    try:
        with live_view(quiet=quiet) as view:
            found = run.trial(model, view=view, save_model=paths[-1] if paths else None, force=force)
    except KeyboardInterrupt:
        _say_what_is_kept(run.options["resume"])
        raise
    write_trial(found, outputs, force=force)
    if format is Format.TABLE:
        console.write(import_module("deadrelu.render.terminal.trial").render(found, console.current_screen()))
    else:
        console.write(_render(found, format))
    return ExitCode.OK


def _say_what_is_kept(folder: str | None) -> None:
    """After Ctrl-C: how to go on."""
    if folder is None:
        console.print_note("no run was kept; with --resume FOLDER finished runs are, and the same command goes on")
        return
    kept = len(list(Path(folder, "runs").glob("*.json")))
    console.print_note(f"{count(kept, 'finished run')} kept in {folder}; the same command goes on from there")


def write_trial(trial: Trial, outputs: Outputs, *, force: bool) -> None:
    """Write the trial to each file in its format."""
    for format, path in outputs:
        write_text(path, _render(trial, format), force=force)


def _render(trial: Trial, format: Format) -> str:
    """The trial as text; a table in a file has no colours."""
    if format is Format.JSON:
        return trial.to_json()
    if format is Format.TABLE:
        from deadrelu.render.terminal.screen import Screen

        return str(import_module("deadrelu.render.terminal.trial").render(trial, Screen()))
    return str(import_module(f"deadrelu.render.{_HOMES[format]}").render(trial))
