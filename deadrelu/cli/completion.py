"""What the shell completes where Typer cannot know: rules, formats, and the words of choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deadrelu.judge.rules import RULES


def rule_names(incomplete: str) -> list[tuple[str, str]]:
    """Rule codes, or names if the word begins in lower case; each with the rule's summary."""
    by_name = incomplete[:1].islower()
    offered = ((rule.name if by_name else rule.code, rule.summary) for rule in RULES.values())
    return [offer for offer in offered if offer[0].startswith(incomplete)]


def offer(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Complete these words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def offer_outputs(formats: Iterable[str]) -> Callable[[str], list[str]]:
    """Complete `json=` and the like; after it the shell completes files."""
    return offer([f"{str.__str__(name)}=" for name in formats])
