"""The command line itself: registers the commands, and turns exceptions into exit codes, in this one place."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from deadrelu import __version__
from deadrelu.cli import console
from deadrelu.cli.scan import scan
from deadrelu.errors import DeadreluError, ExitCode

app = typer.Typer(
    name="deadrelu",
    help="Find the dead ReLU units of a trained PyTorch model, and gate CI on them.",
    epilog="Exit codes: 0 passed, 1 the gate failed, 2 could not run, 3 nothing was measured.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(scan)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.write(f"deadrelu {__version__}")
        raise typer.Exit


@app.callback()
def deadrelu(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Keep --debug where `main` finds it, whatever goes wrong later."""
    del version  # its callback has done the work
    if debug:
        os.environ["DEADRELU_DEBUG"] = "1"


def main() -> NoReturn:
    """Run the command line and exit with an `ExitCode`; an uncaught exception is a 2 with one line."""
    try:
        app()
        code = ExitCode.OK
    except DeadreluError as error:
        _trace()
        console.say_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); a second error while Python flushes stdout at exit would tell nobody anything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
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
