"""`deadrelu rules`: what each rule means, why it matters, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.choices import Plain
from deadrelu.cli.command import command
from deadrelu.cli.complete import rule_names
from deadrelu.judge.rules import RULES, find_rule
from deadrelu.render.terminal import rules as rendering


@command()
def rules(
    rule: Annotated[
        str | None,
        typer.Argument(
            metavar="RULE", help="The code or name of one rule. Default: all of them.", autocompletion=rule_names
        ),
    ] = None,
    format: o.PlainFormat = Plain.TABLE,
) -> None:
    """Explain the rules: what each means, why it matters, how to fix it."""
    chosen = list(RULES.values()) if rule is None else [find_rule(rule)]
    if format is Plain.JSON:
        console.write(rendering.as_json(chosen))
    else:
        screen = console.screen()
        console.write(rendering.render(chosen, width=screen.width, color=screen.color, unicode=screen.unicode))
