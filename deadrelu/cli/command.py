"""How a function becomes a command: Typer reads its options, and this adds those that commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand
from typer.main import get_command

from deadrelu.cli.examples import EXAMPLES
from deadrelu.cli.general import ConfigOption, DebugOption, NoConfigOption
from deadrelu.cli.help import write_examples, write_sections
from deadrelu.cli.usage_errors import usage, usage_errors
from deadrelu.errors import UsageError


def _general(debug: DebugOption = False, config: ConfigOption = None, no_config: NoConfigOption = False) -> None:
    """The options of `deadrelu` itself, which may also follow the command."""


class Command(TyperCommand):
    """A command of `deadrelu`: those of the functions in `shared`, of its own function, and the general.

    The function gets its own options as arguments, and finds the others in `context.params`.
    """

    shared: ClassVar[tuple[Callable[..., Any], ...]] = ()
    reads_configuration = False
    allow_extra_args = True  # so that `parse_args` sees them

    def __init__(self, name: str | None, *, params: list[Any], **settings: Any) -> None:
        """As Typer makes it of the function, with the shared options."""
        self._own = frozenset(parameter.name for parameter in params)
        shared = [parameter for function in self.shared for parameter in _parameters(function)]
        general = _parameters(_general)
        for parameter in general:
            parameter.hidden = parameter.name != "debug" and not self.reads_configuration
        super().__init__(name, params=[*shared, *params, *general], **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and refuse what cannot be read in deadrelu's words."""
        with usage_errors(ctx, self.places(ctx)):
            rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise UsageError(f"unexpected argument {rest[0]!r}", hint=f"write `{usage(ctx)}`")
        return rest

    def places(self, ctx: Any) -> Mapping[str, str]:
        """What an error calls the place of a value that was not typed, by parameter."""
        del ctx
        return {}

    def invoke(self, ctx: Any) -> Any:
        """Call the function with its own options."""
        return ctx.invoke(self.callback, **{name: value for name, value in ctx.params.items() if name in self._own})

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line lists behind the command's name, without braces around what is required."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """A section for each group of options, and examples at the end, where the screen stops."""
        write_sections(ctx, formatter, self.get_params(ctx))
        write_examples(formatter, EXAMPLES.get(ctx.info_name, ()))


def command(cls: type[TyperCommand] = Command) -> Callable[[Callable[..., Any]], Any]:
    """Make a command of a function: its name, its docstring and the options of its signature are the function's."""

    def make(function: Callable[..., Any]) -> Any:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        single.command(cls=cls)(function)
        return get_command(single)

    return make


def _parameters(function: Callable[..., Any]) -> list[Any]:
    """The options that Typer reads from the signature of a function."""
    parameters: list[Any] = command(TyperCommand)(function).params
    return parameters
