"""What decided a verdict: the rule that failed, or what dead units were compared to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.judge.baseline import gate, renew_entries
from deadrelu.judge.policy import Policy
from deadrelu.judge.verdict import FailedRule, explain_verdict
from deadrelu.render.conclusion import mood, verdict_reason
from deadrelu.render.terminal import table
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report, Skipped
from tests.conftest import make_report, make_site, make_stats
from tests.judge.reports import dead_report

SICK = {"a": (0, 1), "b": (2,), "c": ()}


def held(now: dict[str, tuple[int, ...]], before: dict[str, tuple[int, ...]], standing: str) -> Report:
    """A report as the command line holds it against `ci/dead.json`."""
    report = gate(dead_report(now), Policy(), renew_entries(dead_report(before), Policy(), None))
    return replace(report, settings={**report.settings, "baseline": "ci/dead.json", "standing": standing})


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(), "no limit was given (only a wholly dead site fails); set one with --max-dead"),
        (Policy(ignore=("DR002",)), "no limit was given; set one with --max-dead"),
        (Policy(max_dead=0.1), "2 of 3 sites have more dead units than the limit of 10% allows"),
        (Policy(max_dead=0.2), "1 of 3 sites has more dead units than the limit of 20% allows"),
        (Policy(max_dead=0.5), "no site has more dead units than the limit of 50% allows"),
        (
            Policy(limits=(("a", 0.1), ("b", 0.05))),
            "2 of 3 sites have more dead units than their limits allow",
        ),
        (
            Policy(limits=(("a", 0.5),)),
            "no site has more dead units than the limit of 50% allows; 2 sites have no limit",
        ),
        (Policy(max_dead_total=0.1), "more than 10% of all units are dead"),
        (Policy(max_dead_total=0.5), "no more than 50% of all units are dead"),
        (
            Policy(max_dead=0.0, ignore=("DR001",)),
            "dead units are not judged: DR001 is left out by --select or --ignore",
        ),
    ],
)
def test_the_reason_names_the_limit_and_how_many_sites_are_above_it(policy: Policy, reason: str) -> None:
    assert verdict_reason(dead_report(SICK, policy=policy)) == reason


def test_the_baseline_is_named_and_covers_wholly_dead_sites() -> None:
    assert verdict_reason(held(SICK, SICK, "same")) == "no more dead units than in ci/dead.json"
    assert verdict_reason(held({**SICK, "a": ()}, SICK, "better")) == "fewer dead units than in ci/dead.json"
    assert verdict_reason(held(SICK, SICK, "tolerated")) == "within the tolerance of ci/dead.json"
    worse = held({"a": tuple(range(6)), "b": (1, 2), "c": ()}, SICK, "tolerated")
    assert verdict_reason(worse) == "2 of 3 sites have more dead units than ci/dead.json allows"


def test_every_rule_that_failed_is_named() -> None:
    sites = [make_stats(make_site("a", 4), [0.0] * 4), make_stats(make_site("b", 4), [0.5] * 4, nonfinite=(1,))]
    skipped = (Skipped(id="x", op="relu", reason="never called"),)
    report = make_report(sites, policy=Policy(strict=True), skipped=skipped)
    assert {failed.rule for failed in explain_verdict(report).failed} == {"DR002", "DR003", "DR008"}
    reason = verdict_reason(report)
    assert "1 of 2 sites is wholly dead" in reason
    assert "1 of 2 sites met NaN or infinity" in reason
    assert "1 site was skipped, which fails with --strict" in reason
    weights = make_report([sites[1]], nonfinite_weights={"fc.bias": 2})
    assert explain_verdict(weights).failed[0] == FailedRule(rule="DR003", sites=0)
    assert verdict_reason(weights) == "weights are NaN or infinite; the one site met NaN or infinity"


def test_a_mostly_dead_model_that_passes_without_a_limit_is_doubtful() -> None:
    dying = {"a": (0, 1, 2, 3, 4)}
    assert mood(dead_report(dying)) == "doubtful"
    assert mood(dead_report(dying, policy=Policy(ignore=("DR001",)))) == "doubtful"
    assert mood(dead_report(dying, policy=Policy(select=("DR003",)))) == "doubtful"
    assert mood(dead_report(dying, policy=Policy(max_dead=1.0))) == "good"


@pytest.mark.parametrize("width", [80, 120])
def test_the_reason_is_in_the_last_ten_lines_of_a_log(canonical: Report, width: int) -> None:
    tail = " ".join(" ".join(table.render(canonical, Screen(width=width)).splitlines()[-10:]).split())
    assert f"FAIL {verdict_reason(canonical)}" in tail
