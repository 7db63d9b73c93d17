"""`deadrelu rules`: what each rule means, why it matters, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.errors import UsageError
from deadrelu.judge.rules import RULES
from deadrelu.render import rules as rendering


def rules(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="One rule, such as DR001. None: all.")] = None,
    format: o.PlainFormat = o.Plain.TABLE,
) -> None:
    """Explain the rules: what each means, why it matters, how to fix it."""
    if code is not None and code.upper() not in RULES:
        raise UsageError(f"{code!r} is no rule", hint=f"the rules: {', '.join(RULES)}")
    chosen = list(RULES.values()) if code is None else [RULES[code.upper()]]
    if format is o.Plain.JSON:
        console.write(rendering.as_json(chosen))
    else:
        screen = console.screen()
        console.write(rendering.render(chosen, width=screen.width, color=screen.color, unicode=screen.unicode))
