"""When a scan may stop: not before the verdict is known."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.judge.early import Snapshot, Until, predict_verdict
from deadrelu.judge.policy import Policy
from tests.judge.reports import dead_report


def snapshot(silent: int, units: int = 10, samples: int = 64, name: str = "act") -> Snapshot:
    return Snapshot(site=name, units=units, silent=silent, samples=samples)


@pytest.mark.parametrize(
    ("sites", "policy", "verdict"),
    [
        ([snapshot(1)], {"max_dead": 0.1}, "pass"),
        ([snapshot(2)], {"max_dead": 0.1}, None),
        ([snapshot(9)], {}, "pass"),  # without a limit only a site that is wholly dead fails the gate
        ([snapshot(10)], {}, None),
        ([snapshot(0), snapshot(10, name="head")], {}, None),
        ([snapshot(10)], {"ignore": ("DR002",)}, "pass"),
        ([snapshot(10)], {"max_dead": 0.5, "ignore": ("DR002",)}, None),  # it may wake in part
        ([snapshot(10)], {"max_dead": 1.0}, None),
        ([snapshot(2)], {"max_dead": 0.1, "ignore": ("DR001@act",)}, "pass"),
        ([snapshot(2)], {"max_dead": 0.1, "limits": (("a*", 0.2),)}, "pass"),
        ([snapshot(2), snapshot(0, name="head")], {"max_dead_total": 0.1}, "pass"),
        ([snapshot(3), snapshot(0, name="head")], {"max_dead_total": 0.1}, None),
        ([], {"max_dead": 0.1}, None),
    ],
)
def test_a_pass_is_known_as_soon_as_no_limit_can_be_exceeded(
    sites: list[Snapshot], policy: dict[str, Any], verdict: str | None
) -> None:
    assert predict_verdict(sites, Policy(**policy), "verdict", check=1) == verdict


def test_nothing_is_known_while_a_strict_gate_has_a_skipped_site() -> None:
    assert predict_verdict([snapshot(0)], Policy(strict=True), "verdict", check=1, skipped=True) is None
    assert predict_verdict([snapshot(0)], Policy(strict=True), "verdict", check=1) == "pass"
    assert predict_verdict([snapshot(0)], Policy(), "verdict", check=1, skipped=True) == "pass"


@given(
    silent=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    woken=st.data(),
    max_dead=st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
    total=st.sampled_from([None, 0.1, 0.5]),
    ignore=st.sets(st.sampled_from(["DR001", "DR002"])),
)
def test_no_later_firing_can_fail_a_gate_that_was_predicted_to_pass(
    silent: list[int], woken: st.DataObject, max_dead: float | None, total: float | None, ignore: set[str]
) -> None:
    """The oracle is the judge, for every way the silent units may go on."""
    policy = Policy(max_dead=max_dead, max_dead_total=total, ignore=tuple(sorted(ignore)))
    sites = [snapshot(n, units=4, name=f"act{i}") for i, n in enumerate(silent)]
    predicted = predict_verdict(sites, policy, "verdict", check=1)
    later = [woken.draw(st.integers(0, n)) for n in silent]
    if predicted == "pass":
        assert verdict(later, policy) == "pass"
    if predicted is None and "DR002" not in ignore:
        assert verdict(silent, policy) == "fail", "the scan went on although as many dead units would have passed"


def verdict(dead: list[int], policy: Policy) -> str:
    """What the judge says where so many units of each site are dead."""
    report = dead_report({f"act{i}": tuple(range(n)) for i, n in enumerate(dead)}, units=4, policy=policy)
    return report.verdict


def needed(units: int, check: int, rare: float, confidence: float) -> int:
    """From (1 − rate)^n ≤ α / (check (check + 1) units)."""
    return math.ceil(math.log((1 - confidence) / (check * (check + 1) * units)) / math.log(1 - rare))


@pytest.mark.parametrize("check", [1, 2, 7])
def test_a_fail_is_likely_from_the_number_of_samples_that_the_union_bound_requires(check: int) -> None:
    policy = Policy(max_dead=0.1, rare_below=0.01, confidence=0.95)
    n = needed(10 + 30, check, 0.01, 0.95)
    for samples, verdict in ((n - 1, None), (n + 1, "fail")):
        sites = [snapshot(5, samples=samples), snapshot(0, units=30, samples=1, name="head")]
        assert predict_verdict(sites, policy, "likely", check=check) == verdict
        assert predict_verdict(sites, policy, "verdict", check=check) is None


def test_no_fail_is_likely_if_nothing_is_rare() -> None:
    assert predict_verdict([snapshot(10, samples=10**9)], Policy(rare_below=0.0), "likely", check=1) is None


@pytest.mark.parametrize("until", ["verdict", "likely"])
def test_a_site_at_its_limit_passes_whatever_the_samples(until: Until) -> None:
    assert predict_verdict([snapshot(1, samples=10**9)], Policy(max_dead=0.1), until, check=9) == "pass"


def test_likely_is_wrong_less_often_than_the_confidence_allows() -> None:
    """Every unit fires exactly at the rate of "rare" and is checked repeatedly: each fail would be wrong."""
    rng = random.Random(0)
    policy = Policy(max_dead=0.0, rare_below=0.05, confidence=0.8)
    units, wrong, rounds = 20, 0, 400
    for _ in range(rounds):
        first = [math.ceil(math.log(rng.random()) / math.log(1 - 0.05)) for _ in range(units)]  # geometric
        for check, samples in enumerate((16, 32, 64, 128, 256, 512), 1):
            silent = sum(n > samples for n in first)
            if predict_verdict([snapshot(silent, units, samples)], policy, "likely", check=check) == "fail":
                wrong += 1
                break
    assert wrong / rounds <= 0.2
