"""What Typer refuses, in deadrelu's words: the option or argument, what is wrong with it, and the next step."""

from __future__ import annotations

from typing import Any

import typer

from deadrelu.errors import UsageError
from deadrelu.text.spelling import did_you_mean

# Typer carries its own Click and names only this one of its usage errors; the base class is that of all of them.
Refused: type[Exception] = typer.BadParameter.__mro__[1]


def unreadable(message: str, hint: str) -> typer.BadParameter:
    """What a parser raises of a value: Typer adds the option, and `refusal` finds the hint again."""
    refused = typer.BadParameter(message)
    vars(refused)["reason"] = UsageError(message, hint=hint)
    return refused


def refusal(error: Any) -> UsageError:
    """The error for a command line that cannot be read."""
    command = error.ctx.command_path if error.ctx else "deadrelu"
    parameter = getattr(error, "param", None)
    every = f"`{command} --help` lists the options"
    reason = getattr(error, "reason", None)
    if parameter is not None and reason is not None:
        return UsageError(f"{name_of(parameter)} {reason.message}", hint=reason.hint or every)
    if parameter is not None and not error.message:  # nothing was given, so that there is nothing to say of it
        return UsageError(f"{name_of(parameter)} is missing", hint=f"write `{usage(error.ctx)}`")
    option = getattr(error, "option_name", None)
    if option is None and hasattr(error.ctx.command, "commands"):
        return UsageError("no command was given", hint=f"`{command} --help` lists the commands")
    if option is None:
        return UsageError(error.format_message().rstrip("."), hint=every)
    if hasattr(error, "possibilities"):
        flags = [flag for known in error.ctx.command.get_params(error.ctx) for flag in known.opts] if error.ctx else []
        return UsageError(f"there is no option {option}", hint=did_you_mean(option, flags) or every)
    takes = "needs a value" if "require" in error.message else "takes no value"
    return UsageError(f"{option} {takes}", hint=every)


def usage(context: Any) -> str:
    """The usage line of a command, on one line."""
    return " ".join(context.get_usage().split()[1:])


def wrong_value(error: Any) -> tuple[str, str]:
    """What is wrong with a value, and the hint, where the caller names its place."""
    reason = getattr(error, "reason", UsageError(error.message.rstrip(".")))
    return reason.message, reason.hint


def name_of(parameter: Any) -> str:
    """An option by its flag, an argument by what the usage line calls it."""
    return next((flag for flag in parameter.opts if flag.startswith("--")), None) or str(parameter.metavar)
