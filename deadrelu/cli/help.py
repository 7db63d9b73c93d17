"""How `--help` shows the options: a value by its name, nothing behind a flag, MODEL without braces.

And how `deadrelu --help` stays quick: no command is imported before it is asked for, and no rich.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from deadrelu.errors import ExitCode


class Command(TyperCommand):
    """One command. Typer would write the type `<bool>` behind every flag, `<str>` behind MODEL, and `{MODEL}`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, also --help, with their types left out of sight."""
        return _plain(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line lists behind the command's name."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Waiting(MutableMapping[str, Any]):
    """Commands by name, each made by `make` when it is first asked for."""

    def __init__(self, names: Mapping[str, str], make: Callable[[str], Any]) -> None:
        """`names` gives each command's one line of help."""
        self.summaries = dict(names)
        self._make = make
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name) if name in self.summaries else None
        if self._made[name] is None:
            raise KeyError(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self.summaries.setdefault(name, "")
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self.summaries[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.summaries)

    def __len__(self) -> int:
        return len(self.summaries)


class Group(TyperGroup):
    """The commands together: a subclass sets `waiting`."""

    waiting: Waiting

    def __init__(self, **settings: Any) -> None:
        """As Typer makes it, with the commands that wait."""
        super().__init__(**settings)
        self.commands = self.waiting

    def get_params(self, ctx: Any) -> list[Any]:
        """The options, also --help, with their types left out of sight."""
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`deadrelu` alone shows the help, and is a usage error."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(int(ExitCode.COULD_NOT_RUN))
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Plain text, by the class above Typer's: to import rich would take longer than all else."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Name and summary of each command, which stays unimported."""
        del ctx  # the class above asks each command for its help
        with formatter.section("Commands"):
            formatter.write_dl(list(self.waiting.summaries.items()))


def _plain(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if isinstance(parameter, TyperArgument):
            vars(parameter)["display_type_rich"] = _no_type  # its metavar replaces the name, not the type
    return parameters


def _no_type(ctx: Any) -> str:
    del ctx  # Typer hands it over
    return ""
