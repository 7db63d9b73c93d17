"""What Typer refuses, in deadrelu's words: the option or argument, what is wrong with it, and the next step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import typer

from deadrelu.cli import console
from deadrelu.errors import UsageError
from deadrelu.text.spelling import did_you_mean


class Unreadable(typer.BadParameter):
    """A value that a parser cannot read: Typer adds the option, and `usage_errors` the hint."""

    def __init__(self, message: str, hint: str) -> None:
        """Keep the hint."""
        super().__init__(message)
        self.hint = hint


@contextmanager
def usage_errors(context: Any, places: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """While it lasts, what Typer refuses is a `UsageError`, and help that cannot be printed an `OutputError`.

    `places` says what to call the place of a value that was not typed, by parameter.
    """
    try:
        yield
    except typer.TyperException as error:
        raise _in_own_words(error, context, places) from error
    except OSError as error:
        console.fail_stdout(error)
        raise typer.Exit from error


def _in_own_words(error: Any, context: Any, places: Mapping[str, str]) -> UsageError:
    every = f"`{context.command_path} --help` lists the options"
    parameter, option = getattr(error, "param", None), getattr(error, "option_name", None)
    if parameter is not None:
        if not error.message:  # nothing was given, so that there is nothing to say of it
            return UsageError(f"{name_of(parameter)} is missing", hint=f"write `{usage(context)}`")
        if parameter.name in places:
            message = f"{places[parameter.name]} is wrong: {error.message.rstrip('.')}"
            return UsageError(message, hint=getattr(error, "hint", ""))
        if isinstance(error, Unreadable):
            return UsageError(f"{name_of(parameter)} {error.message}", hint=error.hint or every)
    if option is None:
        return UsageError(error.format_message().rstrip("."), hint=every)
    if hasattr(error, "possibilities"):
        flags = [flag for known in context.command.get_params(context) for flag in known.opts]
        return UsageError(f"there is no option {option}", hint=did_you_mean(option, flags) or every)
    takes = "needs a value" if "require" in error.message else "takes no value"
    return UsageError(f"{option} {takes}", hint=every)


def usage(context: Any) -> str:
    """The usage line of a command, on one line."""
    return " ".join(context.get_usage().split()[1:])


def name_of(parameter: Any) -> str:
    """An option by its flag, an argument by what the usage line calls it."""
    return next((flag for flag in parameter.opts if flag.startswith("--")), None) or str(parameter.metavar)
