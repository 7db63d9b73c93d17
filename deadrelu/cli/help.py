"""How `--help` shows the options: a value by its name, nothing behind a flag, MODEL without braces."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class Command(TyperCommand):
    """One command. Typer would write the type `<bool>` behind every flag, `<str>` behind MODEL, and `{MODEL}`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, also --help, with their types left out of sight."""
        return _plain(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line lists behind the command's name."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Group(TyperGroup):
    """The commands together."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options, also --help, with their types left out of sight."""
        return _plain(super().get_params(ctx))


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
