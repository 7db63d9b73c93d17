"""How `--help` looks: plain text in one layout for `deadrelu` and its commands, a section for each group of options.

And how `deadrelu --help` stays quick: no command is imported before it is asked for, and no rich.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from deadrelu.cli.everywhere import shown, taken
from deadrelu.cli.examples import EXAMPLES
from deadrelu.cli.refusal import Refused, usage
from deadrelu.errors import ExitCode, UsageError
from deadrelu.text.spelling import did_you_mean

WIDEST = 100
"""Columns that a help text takes at most."""

_OTHERS = "General"


class Command(TyperCommand):
    """One command. Typer would write `<str>` behind MODEL, and `{MODEL}`."""

    allow_extra_args = True  # so that `parse_args` sees them
    reads_configuration = False

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, then those of `deadrelu` itself and --help."""
        *own, last = super().get_params(ctx)
        return [*map(_untyped, own), *shown(ctx, reads_configuration=self.reads_configuration), last]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of `deadrelu` itself first; an error names this command, whatever Typer knows of it."""
        try:
            rest = super().parse_args(ctx, taken(ctx, args))
        except Refused as error:
            vars(error)["ctx"] = ctx
            raise
        if rest and not ctx.resilient_parsing:
            raise UsageError(f"unexpected argument {rest[0]!r}", hint=f"write `{usage(ctx)}`")
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line lists behind the command's name, without braces around what is required."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Plain text, by the class above Typer's, and examples at the end, where the screen stops."""
        super(TyperCommand, self).format_help(ctx, formatter)
        _write_examples(formatter, EXAMPLES.get(ctx.info_name, ()))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """A section for the arguments, and for each group of options."""
        _write_sections(ctx, formatter, self.listed(ctx))

    def listed(self, ctx: Any) -> list[Any]:
        """The parameters as the help shows them."""
        return list(self.get_params(ctx))


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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`deadrelu` alone shows the help, and is a usage error."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(int(ExitCode.COULD_NOT_RUN))
        try:
            return super().parse_args(ctx, args)
        except SystemExit as done:  # how Typer ends once it has installed or shown the shell's completion
            raise typer.Exit(int(done.code or 0)) from None

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, for which no command is imported."""
        del ctx  # Typer hands it over
        return list(self.waiting)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command by its name; one that is not there is asked back."""
        name = args[0]
        if name not in self.waiting.summaries and not name.startswith("-") and not ctx.resilient_parsing:
            near = did_you_mean(name, self.waiting)
            raise UsageError(f"there is no command {name!r}", hint=near or "`deadrelu --help` lists the commands")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Plain text, by the class above Typer's: to import rich would take longer than all else."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands, then the options."""
        self.format_commands(ctx, formatter)
        _write_sections(ctx, formatter, self.get_params(ctx), others="Options")
        _write_examples(formatter, EXAMPLES[""])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Name and summary of each command, which stays unimported."""
        del ctx  # the class above asks each command for its help
        with formatter.section("Commands"):
            formatter.write_dl(list(self.waiting.summaries.items()))


def _write_sections(ctx: Any, formatter: Any, parameters: Iterable[Any], *, others: str = _OTHERS) -> None:
    """The parameters by the sections that they name; those that name none come last, under `others`."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            name = "Arguments" if isinstance(parameter, TyperArgument) else parameter.rich_help_panel or others
            sections.setdefault(name, []).append(record)
    for name in sorted(sections, key=others.__eq__):
        with formatter.section(name):
            formatter.write_dl(sections[name])


def _write_examples(formatter: Any, examples: Iterable[str]) -> None:
    """Commands to copy, unwrapped."""
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"  {line}\n")


def _untyped(parameter: Any) -> Any:
    """The parameter, an argument without its type, which Typer would write behind its name."""
    if isinstance(parameter, TyperArgument):
        vars(parameter)["display_type_rich"] = _no_type
    return parameter


def _no_type(ctx: Any) -> str:
    del ctx  # Typer hands it over
    return ""
