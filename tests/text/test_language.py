"""The sources speak the English of the field: phrases that were translated once do not come back."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
BANNED = {
    r"(?<!there )(?<!There )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|such\b|fewer\b)": "is not a …",
    r"\bof theirs\b|\bof its kin\b|\band its kin\b": "their …, ReLU-like …",
    r"\bdice\b": "random state, RNG",
    r"\banew\b": "again",
    r"\b(?:value|values|element|elements|what) that (?:is|are) not finite\b|\bwhat is not finite\b": "non-finite",
    r"\b(?:is|are) (?:told|asked|said) (?:of|to|by|whether|at)\b|\bis told\b|\bhears (?:of|about)\b": "gets, receives",
    r"\btells (?:it|its|the|an|a|of|whether|what)\b": "returns, passes, notifies, reports",
    r"\b(?:is|are|be) taken for\b": "is accepted as, is mistaken for",
    r"\bprescription|\btestif(?:y|ies)": "plan, verify",
    r"\ba nest of\b|\bnested nest\b": "a pytree of",
    r"\bstands? (?:in|at|on|beside|before|there|above|below|under)\b": "is",
    r"\ba look (?:at|comes|costs)\b|\blooks? (?:costs?|comes?)\b": "a check",
    r"\bwhere there is none\b": "if there is none",
}
"""Phrases by regular expression, with what to write instead."""

SOURCES = sorted(
    [*(ROOT / "deadrelu").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
)


def prose(text: str, suffix: str) -> list[tuple[int, str]]:
    """The lines of text of a source, with their numbers: of a Python file its strings and comments."""
    if suffix != ".py":
        return list(enumerate(text.splitlines(), 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    kinds = (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    return [(token.start[0], " ".join(token.string.split())) for token in tokens if token.type in kinds]


def slips(text: str, suffix: str) -> list[str]:
    """Each banned phrase in a source, with its line and what to write instead."""
    return [
        f"{line}: “{found[0]}”, write: {better}"
        for line, words in prose(text, suffix)
        for phrase, better in BANNED.items()
        for found in re.finditer(phrase, words)
    ]


def test_no_source_has_a_phrase_that_was_translated() -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES}
    assert len(texts) > 200
    found = {name: slips(text, Path(name).suffix) for name, text in texts.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_check_reads_docstrings_comments_and_messages_and_no_names() -> None:
    text = '"""The file is no table."""\ndice = 1  # ReLU and its kin\nraise ValueError(f"{x} is told of {y}")\n'
    assert [line.partition(":")[0] for line in slips(text, ".py")] == ["1", "2", "3"]
    assert slips("There is no table, and it is no longer needed.", ".md") == []
