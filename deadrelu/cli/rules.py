"""`deadrelu rules`: what each rule means, why it matters, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.completion import rule_names
from deadrelu.cli.outputs import show_plain
from deadrelu.judge.rules import RULES, find_rule
from deadrelu.render.formats import Format
from deadrelu.render.terminal import rules as rendering


@command()
def rules(
    rule: Annotated[
        str | None,
        typer.Argument(
            metavar="RULE", help="The code or name of one rule. Default: all of them.", autocompletion=rule_names
        ),
    ] = None,
    format: o.PlainFormatOption = Format.TABLE,
) -> None:
    """Explain the rules: what each means, why it matters, how to fix it."""
    chosen = list(RULES.values()) if rule is None else [find_rule(rule)]
    show_plain(format, [asdict(rule) for rule in chosen], lambda screen: rendering.render(chosen, screen))
