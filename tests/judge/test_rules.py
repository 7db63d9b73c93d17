"""The table of rules is complete and fit to print."""

from __future__ import annotations

import re

from deadrelu.judge.rules import RULES


def test_the_codes_are_those_of_design_without_the_one_that_nothing_raises_yet() -> None:
    assert list(RULES) == [f"DR{number:03}" for number in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)]


def test_each_rule_says_what_why_and_what_to_do_in_one_sentence_each() -> None:
    names = {rule.name for rule in RULES.values()}
    assert len(names) == len(RULES)
    for code, rule in RULES.items():
        assert rule.code == code
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert all(re.fullmatch(r"[A-Z`][^\n]+\.", text) for text in (rule.summary, rule.why, rule.fix))
