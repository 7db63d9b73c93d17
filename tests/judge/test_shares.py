"""Shares in every form that a person writes, and their errors."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest

from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy, policy_of


@pytest.mark.parametrize("share", ["5%", "0.05", " 5 % ", 0.05, Fraction(1, 20), np.float64(0.05)])
def test_a_policy_accepts_shares_in_every_form_and_stores_floats(share: str | float | Fraction) -> None:
    policy = Policy(max_dead=share, max_dead_total=share, rare_below=share, confidence=share, limits={"a.*": share})
    assert policy == Policy(
        max_dead=0.05, max_dead_total=0.05, rare_below=0.05, confidence=0.05, limits=(("a.*", 0.05),)
    )
    assert {type(value) for value in (policy.max_dead, policy.rare_below, policy.limits[0][1])} == {float}
    assert policy.limit("a.b") == 0.05
    assert hash(policy) == hash(replace(policy, max_dead="5%"))
    assert asdict(policy)["max_dead"] == policy.to_settings()["max_dead"] == 0.05


def test_a_policy_without_arguments_has_the_defaults() -> None:
    policy = Policy()
    assert (policy.max_dead, policy.max_dead_total, policy.rare_below, policy.confidence) == (None, None, 0.01, 0.95)
    assert policy.limits == ()
    assert Policy(max_dead=0).max_dead == 0.0
    assert Policy(max_dead=1).max_dead == 1.0


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"max_dead": 5}, "max_dead must be between 0 and 1 or a percentage such as '5%', got 5", "write '5%'"),
        ({"max_dead": "5"}, "max_dead must be between 0 and 1 or a percentage such as '5%', got '5'", "write 5%"),
        ({"max_dead": "1"}, "max_dead must be between 0 and 1 or a percentage such as '5%', got '1'", "1% or 100%"),
        ({"max_dead": "many"}, "max_dead must be between 0 and 1 or a percentage such as '5%', got 'many'", "5%"),
        ({"max_dead": True}, "max_dead must be between 0 and 1 or a percentage such as '5%', got True", "5%"),
        ({"max_dead": [0.1]}, "max_dead must be between 0 and 1 or a percentage such as '5%', got [0.1]", "5%"),
        ({"max_dead_total": -0.1}, "max_dead_total must be between 0 and 1", "0.05"),
        ({"rare_below": float("nan")}, "rare_below must be between 0 and 1", "0.05"),
        ({"rare_below": None}, "rare_below must be between 0 and 1", "0.05"),
        ({"confidence": 1.0}, "confidence must be above 0 and below 1, got 1.0", "95%"),
        ({"confidence": "0%"}, "confidence must be above 0 and below 1, got '0%'", "95%"),
        ({"limits": {"head.*": 20}}, "limits['head.*'] must be between 0 and 1", "write '20%'"),
        ({"limits": ["head.*=20%"]}, "limits must map globs over site ids to shares, got 'head.*=20%'", "{'head.*'"),
        ({"limits": 0.2}, "limits must map globs over site ids to shares, got 0.2", "{'head.*'"),
    ],
)
def test_a_share_out_of_range_is_refused_in_pythons_words(given: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        Policy(**given)  # type: ignore[arg-type]
    assert raised.value.message.startswith(message)
    assert hint in raised.value.hint
    assert "--" not in str(raised.value)


def test_limits_make_a_policy_but_beside_a_policy_they_are_an_error() -> None:
    assert policy_of(None) == Policy()
    assert policy_of(None, max_dead="5%", limits={"a": "1%"}, strict=True) == Policy(
        max_dead=0.05, limits=(("a", 0.01),), strict=True
    )
    whole = Policy(max_dead=0.1)
    assert policy_of(whole) is whole
    for beside in ({"max_dead": 0.0}, {"max_dead_total": "1%"}, {"limits": {"a": 0.1}}, {"strict": True}):
        with pytest.raises(UsageError, match=f"policy and {next(iter(beside))} were both given"):
            policy_of(whole, **beside)  # type: ignore[arg-type]
