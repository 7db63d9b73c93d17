"""DR007, and the limit on saturated units."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.judge.judgement import exit_code, judge
from deadrelu.judge.merge import common_policy
from deadrelu.judge.policy import Policy
from deadrelu.render.conclusion import conclusion, mood, next_step, verdict_reason
from deadrelu.report import Finding, Report, SiteStats
from tests.conftest import make_report
from tests.judge.reports import saturated_site


def found(report: Report) -> list[Finding]:
    """What DR007 found."""
    return [finding for finding in report.findings if finding.rule == "DR007"]


def test_without_a_limit_saturated_units_are_a_warning_with_their_sides_and_samples() -> None:
    report = make_report([saturated_site()])
    [finding] = found(report)
    assert (finding.severity, finding.site, finding.units) == ("warning", "head.tanh", (0, 1, 2))
    assert finding.message == "3 of 16 units are saturated (19%), 2 stuck low and 1 stuck high, on 1,797 samples."
    assert (report.verdict, mood(report), int(exit_code(report))) == ("pass", "doubtful", 0)


@pytest.mark.parametrize(
    ("stats", "sides"),
    [
        (saturated_site(low=0, high=1), "1 of 16 units is saturated (6.2%), stuck high, on 1,797 samples."),
        (saturated_site(low=3, high=0), "3 of 16 units are saturated (19%), all stuck low, on 1,797 samples."),
        (
            replace(saturated_site(high=0), max_preactivation=(4.0,) * 16),
            "2 of 16 units are saturated (12%) on 1,797 samples.",
        ),
        (
            replace(saturated_site(), max_preactivation=(None,) * 16, min_preactivation=(None,) * 16),
            "3 of 16 units are saturated (19%), 1 stuck high, on 1,797 samples.",
        ),
    ],
)
def test_a_side_is_named_only_where_it_is_known(stats: SiteStats, sides: str) -> None:
    assert found(make_report([stats]))[0].message == sides


def test_a_unit_that_leaks_up_to_zero_is_stuck_low() -> None:
    stats = saturated_site(low=1, high=0)
    stats = replace(stats, max_preactivation=(0.0, *stats.max_preactivation[1:]))
    assert "stuck low" in found(make_report([stats]))[0].message


@pytest.mark.parametrize(
    ("limit", "severity", "verdict", "says"),
    [
        ("20%", "note", "pass", "the limit of 20% allows 3."),
        (3 / 16, "note", "pass", "allows 3."),
        ("10%", "error", "fail", "the limit of 10% allows 1."),
        (0.0, "error", "fail", "the limit of 0% allows 0."),
    ],
)
def test_a_limit_makes_them_an_error_above_it_and_a_note_within_it(
    limit: str | float, severity: str, verdict: str, says: str
) -> None:
    report = make_report(
        [saturated_site(), saturated_site("body.tanh", low=0, high=0)], policy=Policy(max_saturated=limit)
    )
    [finding] = found(report)
    assert (finding.severity, report.verdict) == (severity, verdict)
    assert finding.message.endswith(says)
    assert int(exit_code(report)) == int(verdict == "fail")


def test_no_limit_applies_where_the_axis_is_a_guess() -> None:
    stats = saturated_site()
    stats = replace(stats, site=replace(stats.site, feature_axis_by="guess"))
    report = make_report([stats, saturated_site("body.tanh", low=0, high=0)], policy=Policy(max_saturated=0))
    [finding] = found(report)
    assert (finding.severity, report.verdict) == ("note", "pass")
    assert "if axis 1 holds its units, which is a guess: no limit applies" in finding.message


def test_the_limit_on_saturated_units_leaves_dead_units_alone_and_the_other_way_round() -> None:
    stats = saturated_site(low=0, high=0, dead=4)
    assert make_report([stats], policy=Policy(max_saturated=0)).verdict == "pass"
    assert make_report([saturated_site()], policy=Policy(max_dead=0)).verdict == "pass"


def test_saturated_units_can_be_ignored_at_a_site() -> None:
    sites = [saturated_site("a"), saturated_site("b")]
    report = make_report(sites, policy=Policy(max_saturated=0, ignore=("saturated-units@a: a gate",)))
    assert [finding.site for finding in found(report)] == ["b"]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(), "no unit is dead; no limit was given"),
        (
            Policy(max_saturated=0.2),
            "no site has more saturated units than the limit of 20% allows;"
            " no unit is dead; no limit on dead units was given",
        ),
        (
            Policy(max_saturated=0.2, max_dead=0.05),
            "no site has more dead units than the limit of 5% allows;"
            " no site has more saturated units than the limit of 20% allows",
        ),
        (Policy(max_saturated=0.1), "1 of 2 sites has more saturated units than the limit of 10% allows"),
        (Policy(max_saturated=0.1, ignore=("DR007",)), "no unit is dead; no limit was given"),
    ],
)
def test_the_reason_of_the_verdict_names_the_limit(policy: Policy, reason: str) -> None:
    assert verdict_reason(make_report([saturated_site(), saturated_site("b", low=0, high=0)], policy=policy)) == reason


def test_the_conclusion_counts_saturated_units_and_does_not_say_that_all_fired() -> None:
    alone = conclusion(make_report([saturated_site()]))
    assert alone == (
        "No unit was found dead on 1,797 samples;"
        " 3 of 16 units (19%) are saturated: hardly any gradient passes through them."
    )
    both = conclusion(make_report([saturated_site(dead=1)]))
    assert both.startswith("1 of 16 units (6.2%) never fired on 1,797 samples")
    assert "3 of 16 units (19%) are saturated" in both


def test_a_limit_on_saturated_units_is_a_guard_for_ci() -> None:
    clean = saturated_site(low=0, high=0)
    assert next_step(make_report([clean])).purpose == "Guard this in CI"
    assert next_step(make_report([clean], policy=Policy(max_saturated=0))).purpose == "Keep the figures of every unit"


def test_the_limit_is_a_setting_of_the_report_and_merging_keeps_it() -> None:
    report = make_report([saturated_site()], policy=Policy(max_saturated="25%"))
    assert report.settings["max_saturated"] == 0.25
    again = Report.from_json(report.to_json())
    assert again == report
    assert common_policy([report, again]) == Policy(max_saturated=0.25)
    assert judge(again, common_policy([again], max_saturated=0.0)).verdict == "fail"
