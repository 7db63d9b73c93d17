"""The rules: all of them in a list, or one of them explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from deadrelu.judge.rules import Rule
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.screen import Screen


def render(rules: Sequence[Rule], screen: Screen = Screen()) -> str:
    """Return several rules with a line each, or a single one with its explanation."""
    drawn = _explained(rules[0], screen) if len(rules) == 1 else _listed(rules, screen)
    return page([drawn], screen)


def _explained(rule: Rule, screen: Screen) -> Iterator[Text]:
    """Yield a rule in full."""
    yield Text.assemble((f" {rule.code} ", f"{styles.SEVERITY[rule.severity]} reverse"), (f" {rule.name}", "bold"))
    yield Text()
    yield from paragraph(Text(screen.text(rule.summary)), screen)
    for title, text in (("Why it matters", rule.why), ("What to do", rule.fix)):
        yield Text()
        yield Text(title, "bold")
        yield from paragraph(Text(screen.text(text)), screen, first="  ")
    yield Text()
    severity = f"Severity: {rule.severity}, unless a limit, --strict or a baseline changes it."
    yield from paragraph(Text(severity, "dim"), screen)
    yield Text(f"  --ignore {rule.code}", "dim")


def _listed(rules: Sequence[Rule], screen: Screen) -> Iterator[Text]:
    """Yield a line for each rule."""
    names = max(len(rule.name) for rule in rules)
    for rule in rules:
        severity = (f"{rule.severity:<7}", styles.SEVERITY[rule.severity])
        first = Text.assemble((rule.code, "bold"), f"  {rule.name:<{names}}  ", severity, "  ")
        yield from paragraph(Text(screen.text(rule.summary)), screen, first=first)
    yield Text()
    yield from paragraph(Text("To explain one of them:", "dim"), screen)
    yield Text(f"  deadrelu rules {rules[0].code}", "bold")
