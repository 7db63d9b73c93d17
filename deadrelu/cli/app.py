"""The command line itself: registers the commands, and turns exceptions into exit codes, in this one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from deadrelu import __version__
from deadrelu.cli import console, process, ranks
from deadrelu.cli.examples import EXAMPLES
from deadrelu.cli.general import ConfigOption, DebugOption, NoConfigOption
from deadrelu.cli.help import WIDEST, write_examples, write_sections
from deadrelu.cli.usage_errors import usage_errors
from deadrelu.config.keys import SPELLINGS
from deadrelu.errors import DeadreluError, ExitCode, UsageError
from deadrelu.text.spelling import did_you_mean

_PROGRAM = "deadrelu"
COMPLETE = f"_{_PROGRAM.upper()}_COMPLETE"
"""The variable by which a shell requests completions; Typer derives the same name from the program's."""

SUMMARIES = {
    "scan": "Run MODEL over the data and report the units that never fire.",
    "suggest": "Say what to do about each sick site of MODEL: why, the command, the edit of the source.",
    "patch": "Swap the ReLUs of MODEL that have dead units for leaky ones, and verify what that changed.",
    "trial": "Train MODEL in several ways, everything else equal, and say which is better than keeping it.",
    "prove": "Say of each silent unit of MODEL whether some input of a box wakes it, or none.",
    "prune": "Write MODEL without its dead units: the same outputs, to the last bit, from smaller layers.",
    "inspect": "Say what FILE is, what it would run, and what it holds, without running any of it.",
    "diff": "Show which sites got worse, better, new or gone from OLD to NEW, and which units died or came back.",
    "trend": "Scan each CHECKPOINT on the same data and show how the dead share of each site changed.",
    "watch": "Show RUN.jsonl, which deadrelu.watch writes while a model trains, and follow it.",
    "merge": "Add what several scans of one model counted, over different parts of the data, and judge the sum.",
    "report": "Render a saved report again; its verdict stays what it was, and the exit code is 0.",
    "rules": "Explain the rules: what each means, why it matters, how to fix it.",
}
"""The first sentence of each command's help, for a help that imports no command (a test compares the two)."""


class Commands(TyperGroup):
    """The commands, each imported when it is wanted: `deadrelu --help` must be quick."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names."""
        del ctx  # Typer passes it
        return list(SUMMARIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command that the module of that name defines."""
        del ctx
        return getattr(import_module(f"deadrelu.cli.{cmd_name}"), cmd_name) if cmd_name in SUMMARIES else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`deadrelu` alone shows the help, and is a usage error."""
        with usage_errors(ctx):
            if not args and not ctx.resilient_parsing:
                typer.echo(ctx.get_help())
                raise typer.Exit(int(ExitCode.COULD_NOT_RUN))
            try:
                return super().parse_args(ctx, args)
            except SystemExit as done:  # how Typer ends once it has installed or shown the shell's completion
                raise typer.Exit(int(done.code or 0)) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command by its name, or an error that suggests the nearest."""
        name = args[0]
        if name not in SUMMARIES and not name.startswith("-") and not ctx.resilient_parsing:
            near = did_you_mean(name, SUMMARIES)
            raise UsageError(f"there is no command {name!r}", hint=near or "`deadrelu --help` lists the commands")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands by their summaries, then the options."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))
        write_sections(ctx, formatter, self.get_params(ctx), others="Options")
        write_examples(formatter, EXAMPLES[""])


app = typer.Typer(
    name=_PROGRAM,
    cls=Commands,
    help="Find the dead ReLU units of a trained PyTorch model, and gate CI on them.",
    epilog="Exit codes: 0 passed, 1 the gate failed, 2 could not run, 3 nothing was measured.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": WIDEST,
        "token_normalize_func": lambda name: SPELLINGS.get(name, name),
    },
)


def every_command() -> dict[str, Any]:
    """The commands by name, all imported."""
    return {name: getattr(import_module(f"deadrelu.cli.{name}"), name) for name in SUMMARIES}


def _show_version(wanted: bool) -> None:
    if wanted:
        from deadrelu.measure.build import has_native_counter

        console.write(f"deadrelu {__version__} (counter: {'native' if has_native_counter() else 'torch'})")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: DebugOption = False,
    config: ConfigOption = None,
    no_config: NoConfigOption = False,
) -> None:
    """Refuse options without a command; the commands read these options from the context."""
    del version, debug, config, no_config
    if context.invoked_subcommand is None:
        raise UsageError("no command was given", hint="`deadrelu --help` lists the commands")


def main() -> NoReturn:
    """Run the command line and exit with an `ExitCode`; an uncaught exception is a 2 with one line."""
    console.open_closed_streams()
    process.own()
    process.leave(ranks.run(_run) if ranks.launched() else _run(console.print_error))


def _run(print_error: Callable[[DeadreluError], None]) -> int:
    """Run the command line; every exception becomes its code and one line."""
    if COMPLETE in os.environ:
        return _complete()
    try:
        code = ExitCode(app(standalone_mode=False, prog_name=_PROGRAM) or 0)
    except DeadreluError as error:
        _trace()
        print_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BaseException as error:  # the last resort: one line, never a traceback
        if isinstance(error, SystemExit) and ranks.current():
            raise  # how a rank ends the run for all
        _trace()
        print_error(
            DeadreluError(
                f"deadrelu itself failed: {type(error).__name__}: {error}", hint="--debug shows where; please report it"
            )
        )
        code = ExitCode.COULD_NOT_RUN
    return int(code)


def _complete() -> int:
    """Print completions for the shell; no code of a model runs."""
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
