"""The rules for a person: all of them in a table, or one of them explained."""

from __future__ import annotations

import json as _json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.text import Text

from deadrelu.judge.rules import Rule
from deadrelu.render.glyphs import Glyphs, choose
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.report import Severity

_STYLE: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def render(rules: Sequence[Rule], *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
    """Several rules as a line each, one alone with what it means, why it matters and how to fix it."""
    glyphs = choose(unicode=unicode)
    drawn = _explained(rules[0], glyphs, width) if len(rules) == 1 else _listed(rules, glyphs, width)
    return page(list(drawn), width=width, color=color)


def as_json(rules: Sequence[Rule]) -> str:
    """The rules as JSON text with a final newline."""
    return _json.dumps([asdict(rule) for rule in rules], indent=2, ensure_ascii=False) + "\n"


def _explained(rule: Rule, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """One rule in full."""
    yield Text.assemble((f" {rule.code} ", f"{_STYLE[rule.severity]} reverse"), (f" {rule.name}", "bold"))
    yield Text()
    yield from paragraph(Text(glyphs.text(rule.summary)), width=width)
    for title, text in (("Why it matters", rule.why), ("What to do", rule.fix)):
        yield Text()
        yield Text(title, "bold")
        yield from paragraph(Text(glyphs.text(text)), width=width, first="  ")
    yield Text()
    said = f"Severity: {rule.severity}, unless a limit, --strict or a baseline moves it."
    yield from paragraph(Text(glyphs.text(said), "dim"), width=width)
    yield Text(f"  --ignore {rule.code}", "dim")


def _listed(rules: Sequence[Rule], glyphs: Glyphs, width: int) -> Iterator[Text]:
    """A line for each rule."""
    names = max(len(rule.name) for rule in rules)
    for rule in rules:
        first = Text.assemble(
            (rule.code, "bold"), "  ", f"{rule.name:<{names}}  ", (f"{rule.severity:<7}", _STYLE[rule.severity]), "  "
        )
        yield from paragraph(Text(glyphs.text(rule.summary)), width=width, first=first)
    yield Text()
    yield from paragraph(Text("One of them explained:", "dim"), width=width)
    yield Text(f"  deadrelu rules {rules[0].code}", "bold")
