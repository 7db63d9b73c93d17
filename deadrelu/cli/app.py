"""The command line itself: registers the commands, and turns exceptions into exit codes, in this one place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from deadrelu import __version__
from deadrelu.cli import console
from deadrelu.cli.configured import Choice, Command, EveryModelCommand
from deadrelu.cli.diff import diff
from deadrelu.cli.help import Command as HelpfulCommand
from deadrelu.cli.help import Group
from deadrelu.cli.inspect import inspect
from deadrelu.cli.merge import merge
from deadrelu.cli.patch import patch
from deadrelu.cli.report import report
from deadrelu.cli.rules import rules
from deadrelu.cli.scan import scan
from deadrelu.cli.suggest import suggest
from deadrelu.cli.trend import trend
from deadrelu.errors import DeadreluError, ExitCode, UsageError

app = typer.Typer(
    name="deadrelu",
    cls=Group,
    help="Find the dead ReLU units of a trained PyTorch model, and gate CI on them.",
    epilog="Exit codes: 0 passed, 1 the gate failed, 2 could not run, 3 nothing was measured.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=EveryModelCommand)(scan)
app.command(cls=EveryModelCommand)(suggest)
app.command(cls=Command)(patch)
app.command(cls=HelpfulCommand)(inspect)
app.command(cls=Command)(diff)
app.command(cls=Command)(trend)
app.command(cls=HelpfulCommand)(merge)
app.command(cls=HelpfulCommand)(report)
app.command(cls=HelpfulCommand)(rules)

# Typer carries its own Click and names only this one of its usage errors; the base class is that of all of them.
_Refused: type[Exception] = typer.BadParameter.__mro__[1]


def _show_version(wanted: bool) -> None:
    if wanted:
        console.write(f"deadrelu {__version__}")
        raise typer.Exit


@app.callback()
def deadrelu(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="This configuration, not the nearest deadrelu.toml."),
    ] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="Take nothing from a configuration file.")] = False,
) -> None:
    """Keep --debug where `main` finds it, and the choice of configuration where the commands do."""
    del version  # its callback has done the work
    if config and no_config:
        raise UsageError("--config and --no-config contradict each other", hint="leave one of them out")
    context.obj = Choice(path=config, isolated=no_config)
    if debug:
        os.environ["DEADRELU_DEBUG"] = "1"


def main() -> NoReturn:
    """Run the command line and exit with an `ExitCode`; an uncaught exception is a 2 with one line."""
    try:
        code = ExitCode(app(standalone_mode=False) or 0)
    except _Refused as error:  # standing alone, Typer would draw a box of several lines
        refusal = cast(typer.BadParameter, error)
        if message := refusal.format_message():  # none after `deadrelu` alone, which shows the help
            command = refusal.ctx.command_path if refusal.ctx else "deadrelu"
            console.say_error(UsageError(message.rstrip("."), hint=f"`{command} --help` lists what there is"))
        code = ExitCode.COULD_NOT_RUN
    except DeadreluError as error:
        _trace()
        console.say_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # the last resort: one line, never a traceback
        _trace()
        said = f"{type(error).__name__}: {error}"
        console.say_error(
            DeadreluError(f"deadrelu itself failed: {said}", hint="--debug shows where; please report it")
        )
        code = ExitCode.COULD_NOT_RUN
    sys.exit(int(code))


def _trace() -> None:
    if os.environ.get("DEADRELU_DEBUG"):
        import traceback

        traceback.print_exc()
