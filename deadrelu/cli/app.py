"""The command line itself: registers the commands, and turns exceptions into exit codes, in this one place."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from deadrelu import __version__
from deadrelu.cli import console, process, ranks
from deadrelu.cli.everywhere import Choice
from deadrelu.cli.help import WIDEST, Group, Waiting
from deadrelu.cli.refusal import Refused, refusal
from deadrelu.errors import DeadreluError, ExitCode

_PROGRAM = "deadrelu"
COMPLETE = f"_{_PROGRAM.upper()}_COMPLETE"
"""The variable by which a shell asks for completions; Typer makes it of the program's name too."""

_COMMANDS = {
    "scan": ("EveryModelCommand", "Run MODEL over the data and report the units that never fire."),
    "suggest": (
        "EveryModelCommand",
        "Say what to do about each sick site of MODEL: why, the command, the edit of the source.",
    ),
    "patch": ("Command", "Swap the ReLUs of MODEL that have dead units for leaky ones, and prove what that changed."),
    "inspect": (
        "HelpfulCommand",
        "Say what FILE is, what it would run, and what it holds, without running any of it.",
    ),
    "diff": (
        "Command",
        "Show which sites got worse, better, new or gone from OLD to NEW, and which units died or came back.",
    ),
    "trend": ("Command", "Scan each CHECKPOINT on the same data and show how the dead share of each site changed."),
    "merge": (
        "HelpfulCommand",
        "Add what several scans of one model counted, over different parts of the data, and judge the sum.",
    ),
    "report": ("HelpfulCommand", "Render a saved report again; its verdict stays what it was, and the exit code is 0."),
    "rules": ("HelpfulCommand", "Explain the rules: what each means, why it matters, how to fix it."),
}
"""Each command's class in `cli.configured`, and the first sentence of its help (a test compares the two)."""


def _made(name: str) -> Any:
    """Import the command `name`, the function of that name in the module of that name."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    kind = getattr(importlib.import_module("deadrelu.cli.configured"), _COMMANDS[name][0])
    function = getattr(importlib.import_module(f"deadrelu.cli.{name}"), name)
    single.command(name, cls=kind)(function)
    return typer.main.get_command(single)


class _Commands(Group):
    waiting = Waiting({name: summary for name, (_, summary) in _COMMANDS.items()}, _made)


app = typer.Typer(
    name=_PROGRAM,
    cls=_Commands,
    help="Find the dead ReLU units of a trained PyTorch model, and gate CI on them.",
    epilog="Exit codes: 0 passed, 1 the gate failed, 2 could not run, 3 nothing was measured.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)


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
        typer.Option(
            "--config",
            metavar="FILE",
            help="Read this configuration file. Default: the nearest deadrelu.toml or pyproject.toml.",
        ),
    ] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="Read no configuration file.")] = False,
) -> None:
    """Keep --debug where `main` finds it, and the choice of configuration where the commands do."""
    del version  # its callback has done the work
    context.obj = Choice()
    context.obj.settle(config, isolated=no_config, debug=debug)


def main() -> NoReturn:
    """Run the command line and exit with an `ExitCode`; an uncaught exception is a 2 with one line."""
    console.stand_in()
    process.own()
    process.leave(ranks.run(_run) if ranks.launched() else _run(console.say_error))


def _run(say_error: Callable[[DeadreluError], None]) -> int:
    """Run the command line; every exception becomes its code and one line."""
    if COMPLETE in os.environ:
        return _complete()
    try:
        code = ExitCode(app(standalone_mode=False, prog_name=_PROGRAM) or 0)
    except Refused as error:  # standing alone, Typer would draw a box of several lines
        say_error(refusal(error))
        code = ExitCode.COULD_NOT_RUN
    except DeadreluError as error:
        _trace()
        say_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BaseException as error:  # the last resort: one line, never a traceback
        if isinstance(error, SystemExit) and ranks.joined():
            raise  # how a rank ends the run for all
        _trace()
        said = f"{type(error).__name__}: {error}"
        say_error(DeadreluError(f"deadrelu itself failed: {said}", hint="--debug shows where; please report it"))
        code = ExitCode.COULD_NOT_RUN
    return int(code)


def _complete() -> int:
    """Answer the shell, which asks by a variable; nothing of a model runs."""
    try:
        app(prog_name=_PROGRAM)
    except SystemExit as done:
        return int(done.code or 0)
    except Exception:  # a line on the screen would get between the shell and what is being typed
        _trace()
    return int(ExitCode.COULD_NOT_RUN)


def _trace() -> None:
    if os.environ.get("DEADRELU_DEBUG"):
        import traceback

        traceback.print_exc()
