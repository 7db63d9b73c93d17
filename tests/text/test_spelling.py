"""Suggestions for a misspelt name."""

from __future__ import annotations

import pytest

from deadrelu.text.spelling import did_you_mean

KNOWN = ("leaky_relu", "prelu", "--max-dead", "--max-dead-total", "DR001", "DR010", "markdown")


@pytest.mark.parametrize(
    ("word", "question"),
    [
        ("leakyrelu", "did you mean 'leaky_relu'?"),
        ("LeakyReLU", "did you mean 'leaky_relu'?"),
        ("--max-ded", "did you mean '--max-dead'?"),
        ("DR01", "did you mean 'DR001' or 'DR010'?"),
        ("mark", "did you mean 'markdown'?"),
        ("frobnicate", ""),
        ("", ""),
    ],
)
def test_similar_names_are_suggested_and_others_are_not(word: str, question: str) -> None:
    assert did_you_mean(word, KNOWN) == question


def test_at_most_three_are_suggested_in_their_order() -> None:
    assert did_you_mean("DR0", [f"DR00{n}" for n in range(1, 6)]) == "did you mean 'DR001', 'DR002' or 'DR003'?"


def test_suggestions_are_written_as_they_are_typed() -> None:
    known = ["Net", "Decoder", "Encoder{}"]
    assert did_you_mean("DECODER", known, write="m.py:{}") == "did you mean m.py:Decoder?"
    assert did_you_mean("Encoder", ["Encoder{}"], write="{}") == "did you mean Encoder{}?"
