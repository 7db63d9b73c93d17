"""The table of rules is complete and printable."""

from __future__ import annotations

import re

import pytest

from deadrelu.errors import UsageError
from deadrelu.judge.finders import FINDERS
from deadrelu.judge.policy import Policy
from deadrelu.judge.rules import RULES, find_rule


def test_the_codes_are_consecutive() -> None:
    assert list(RULES) == [f"DR{number:03}" for number in range(1, 15)]


def test_each_rule_has_a_summary_a_reason_and_a_fix_of_one_sentence_each() -> None:
    names = {rule.name for rule in RULES.values()}
    assert len(names) == len(RULES)
    for code, rule in RULES.items():
        assert rule.code == code
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert all(re.fullmatch(r"[A-Z`][^\n]+\.", text) for text in (rule.summary, rule.why, rule.fix))


@pytest.mark.parametrize("text", ["DR002", "dr002", "dead-site", "Dead-Site", "dead_site"])
def test_a_rule_is_found_by_its_code_and_by_its_name(text: str) -> None:
    assert find_rule(text) is RULES["DR002"]


def test_a_misspelt_rule_gets_a_suggestion_and_an_unknown_one_the_list() -> None:
    with pytest.raises(UsageError, match=r"there is no rule 'dead-sites' .did you mean 'dead-site'"):
        find_rule("dead-sites")
    with pytest.raises(UsageError, match=r"the rules are DR001 dead-units, DR002 dead-site, .*DR011 guessed-axis"):
        find_rule("frobnicate")


def test_a_policy_replaces_names_of_rules_by_codes() -> None:
    policy = Policy(select=("dead-site", "DR001"), ignore=("rare-units@head.*: rare-units are meant", "always_on"))
    assert policy.select == ("DR002", "DR001")
    assert policy.ignore == ("DR004@head.*: rare-units are meant", "DR005")


def test_each_rule_has_one_finder() -> None:
    codes = [(find.__doc__ or "").partition(":")[0] for find in FINDERS]
    assert sorted(codes) == list(RULES)
