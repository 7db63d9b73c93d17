"""What the shell completes where Typer cannot know: rules, formats, and the values of enumerations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from deadrelu.judge.rules import RULES

Offers = Callable[[str], list[str]]


def rule_names(incomplete: str) -> list[tuple[str, str]]:
    """Rule codes, or names if the word begins in lower case; each with the rule's summary."""
    by_name = incomplete[:1].islower()
    offered = ((rule.name if by_name else rule.code, rule.summary) for rule in RULES.values())
    return [offer for offer in offered if offer[0].startswith(incomplete)]


def values_of(kind: Iterable[Enum]) -> Offers:
    """The values of an enumeration."""
    return lambda incomplete: list(_values(kind, incomplete))


def outputs_as(kind: Iterable[Enum]) -> Offers:
    """`json=` and the like; after it the shell completes files."""
    return lambda incomplete: [f"{value}=" for value in _values(kind, incomplete)]


def _values(kind: Iterable[Enum], incomplete: str) -> Iterator[str]:
    return (str(member.value) for member in kind if str(member.value).startswith(incomplete))
