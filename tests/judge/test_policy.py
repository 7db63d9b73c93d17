"""Which findings a report gets, in which order, and the verdict that follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import ExitCode, UsageError
from deadrelu.judge.judgement import exit_code, judge
from deadrelu.judge.policy import Policy, parse_limit
from deadrelu.judge.shares import parse_fraction
from deadrelu.report import DataInfo, Finding, Report, SiteStats, Skipped
from tests.conftest import SAMPLES, make_report, make_site, make_stats

LATER = Skipped(id="aux.relu", op="relu", reason="never called")


def site(name: str = "a", dead: int = 0, units: int = 20, *, rate: float = 0.5, **changes: object) -> SiteStats:
    """A site whose first units are dead and whose others fire at `rate`."""
    return make_stats(make_site(name, units), [0.0] * dead + [rate] * (units - dead), **changes)  # type: ignore[arg-type]


def found(report: Report) -> list[tuple[str, str, str | None]]:
    return [(finding.rule, finding.severity, finding.site) for finding in report.findings]


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5%", 0.05),
        ("0.05", 0.05),
        (" 5 % ", 0.05),
        ("0%", 0.0),
        ("0", 0.0),
        ("100%", 1.0),
        ("1.0", 1.0),
        ("0.1%", 0.001),
        ("1%", 0.01),
    ],
)
def test_a_fraction_is_a_percentage_or_a_decimal(text: str, value: float) -> None:
    assert parse_fraction(text) == value


@given(st.integers(0, 10_000))
def test_a_percentage_is_the_same_float_as_dead_over_units(hundredths: int) -> None:
    assert parse_fraction(f"{hundredths / 100:.2f}%") == hundredths / 10_000


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("5", "more than 1", "write 5%"),
        ("1", "1% or 100%", "write 1% or 100%"),
        ("five", "is not a fraction", "such as 5%"),
        ("nan", "is not a fraction", "such as 5%"),
        ("inf%", "is not a fraction", "such as 5%"),
        ("", "is not a fraction", "such as 5%"),
        ("%", "is not a fraction", "such as 5%"),
        ("-1%", "outside 0% to 100%", "such as 5%"),
        ("101%", "outside 0% to 100%", "such as 5%"),
        ("500", "outside 0% to 100%", "such as 5%"),
    ],
)
def test_text_that_is_not_a_fraction_is_refused_with_the_reason(text: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fraction(text)
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"select": ("DR01",)}, "--select: there is no rule 'DR01'"),
        ({"ignore": ("DR001", "DR099")}, "--ignore: there is no rule 'DR099'"),
    ],
)
def test_an_invalid_policy_is_refused(policy: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Policy(**policy)  # type: ignore[arg-type]
    assert says in caught.value.message
    assert caught.value.hint


def test_a_missing_setting_of_a_report_has_its_default() -> None:
    assert Policy.from_settings({"invocation": ("m.pt",), "max_dead": 0.1}) == Policy(max_dead=0.1)


def test_a_clean_report_passes_without_a_finding() -> None:
    report = make_report([site()])
    assert (report.findings, report.verdict, exit_code(report)) == ((), "pass", ExitCode.OK)


@pytest.mark.parametrize(
    ("max_dead", "max_dead_total", "severity", "verdict"),
    [
        (None, None, "warning", "pass"),
        (0.05, None, "note", "pass"),
        (0.049, None, "error", "fail"),
        (0.0, None, "error", "fail"),
        (None, 0.05, "note", "pass"),
    ],
)
def test_dead_units_warn_without_a_limit_fail_above_it_and_are_a_note_within_it(
    max_dead: float | None, max_dead_total: float | None, severity: str, verdict: str
) -> None:
    report = make_report([site(dead=1)], policy=Policy(max_dead=max_dead, max_dead_total=max_dead_total))
    assert found(report) == [("DR001", severity, "a")]
    assert report.verdict == verdict
    assert only(report).units == (0,)


def test_a_message_names_the_figures_and_what_the_limit_allows() -> None:
    free = make_report([site(dead=3)])
    assert only(free).message == f"3 of 20 units are dead (15%): silent on {SAMPLES:,} samples."
    limited = make_report([site(dead=3)], policy=Policy(max_dead=0.1))
    assert only(limited).message == "3 of 20 units are dead (15%); the limit of 10% allows 2."


@given(st.integers(1, 300), st.integers(0, 1000))
def test_the_gate_fails_exactly_above_the_number_that_a_limit_allows(units: int, thousandths: int) -> None:
    limit = thousandths / 1000
    for dead in range(1, units):
        report = make_report([site(dead=dead, units=units)], policy=Policy(max_dead=limit, select=("DR001",)))
        allowed = int(only(report).message.split()[-1].rstrip(".").replace(",", ""))
        assert (only(report).severity == "error") == (dead > allowed)
        if dead > 2:
            break


def test_the_total_over_all_sites_has_its_own_limit() -> None:
    report = make_report([site("a", 2), site("b")], policy=Policy(max_dead_total=0.04))
    assert found(report) == [("DR001", "error", None), ("DR001", "warning", "a")]
    assert report.findings[0].message == "2 of 40 units of all sites are dead (5%); the limit of 4% allows 1."
    assert make_report([site("a", 2), site("b")], policy=Policy(max_dead_total=0.05)).verdict == "pass"


def test_a_wholly_dead_site_is_one_error_whatever_the_limit() -> None:
    report = make_report([site(dead=20)], policy=Policy(max_dead=1.0))
    assert found(report) == [("DR002", "error", "a")]
    assert "everything after it that has no other input is constant" in only(report).message
    assert "0 of 20 units" in only(report).message


def test_a_site_with_a_nan_is_not_wholly_dead() -> None:
    report = make_report([site(dead=20, nonfinite=(4,))])
    assert found(report) == [("DR003", "error", "a"), ("DR001", "warning", "a")]
    assert only(replace(report, findings=report.findings[:1])).units == (4,)


def test_nonfinite_weights_come_first() -> None:
    weights = {f"layer{n}.weight": 2 for n in range(5)}
    report = make_report([site("a", 20), site("b", nonfinite=(4,))], nonfinite_weights=weights)
    assert found(report) == [("DR003", "error", None), ("DR003", "error", "b"), ("DR002", "error", "a")]
    message = "10 weights are NaN or infinite, in layer0.weight, layer1.weight, layer2.weight and 2 more."
    assert report.findings[0].message == message


def test_rare_units_and_an_activation_that_does_nothing_are_notes() -> None:
    report = make_report([site("a", rate=0.005), site("b", rate=1.0)])
    assert found(report) == [("DR004", "note", "a"), ("DR005", "note", "b")]
    assert "fired at fewer than 1% of 88,053 positions" in report.findings[0].message


@pytest.mark.parametrize(("samples", "raised"), [(298, True), (299, False)])
def test_too_few_samples_are_reported_if_a_unit_is_dead(samples: int, raised: bool) -> None:
    report = make_report([site(dead=1, samples=samples), site("b", samples=5)], policy=Policy(select=("DR006",)))
    assert found(report) == ([("DR006", "warning", None)] if raised else [])
    if raised:
        assert "Silence on 298 samples" in only(report).message
        assert "299 independent samples are needed" in only(report).message


def test_few_samples_are_not_a_finding_if_nothing_is_dead_or_rare() -> None:
    assert make_report([site(samples=5)]).findings == ()
    assert found(make_report([site(dead=1, samples=5)], policy=Policy(rare_below=0.0))) == [("DR001", "warning", "a")]


@pytest.mark.parametrize(("strict", "severity", "code"), [(False, "warning", 0), (True, "error", 1)])
def test_a_skipped_site_warns_and_fails_if_strict(strict: bool, severity: str, code: int) -> None:
    report = make_report([site()], policy=Policy(strict=strict), skipped=(LATER,))
    assert found(report) == [("DR008", severity, "aux.relu")]
    assert exit_code(report) == code


def test_synthetic_data_is_reported() -> None:
    data = DataInfo(source=None, kind="synthetic", samples=64, batches=2, seed=0)
    assert found(make_report([site()], data=data)) == [("DR009", "note", None)]


def test_findings_are_sorted_by_severity_and_then_by_site() -> None:
    sites = [site("a", 1, rate=0.001), site("b", 20), site("c", 10), site("d", 1, nonfinite=(3,))]
    report = make_report(sites, policy=Policy(max_dead=0.1), skipped=(LATER,))
    assert found(report) == [
        ("DR003", "error", "d"),
        ("DR002", "error", "b"),
        ("DR001", "error", "c"),
        ("DR008", "warning", "aux.relu"),
        ("DR001", "note", "a"),
        ("DR004", "note", "a"),
        ("DR001", "note", "d"),
    ]


def test_select_and_ignore_choose_the_rules_and_so_the_verdict() -> None:
    sites = [site("a", 5, rate=0.001), site("b", 20)]
    assert {rule for rule, _, _ in found(make_report(sites, policy=Policy(select=("DR004",))))} == {"DR004"}
    ignoring = make_report(sites, policy=Policy(max_dead=0.0, ignore=("DR001", "DR002")))
    assert (found(ignoring), ignoring.verdict) == ([("DR004", "note", "a")], "pass")


def test_nothing_measured_is_neither_pass_nor_fail_and_cannot_be_hidden() -> None:
    report = make_report([], policy=Policy(strict=True), skipped=(LATER,))
    assert report.verdict == "nothing measured"
    assert exit_code(report, exit_zero=True) == ExitCode.NOTHING_MEASURED


def test_exit_zero_hides_a_failed_gate_only() -> None:
    report = make_report([site(dead=20)])
    assert (exit_code(report), exit_code(report, exit_zero=True)) == (ExitCode.GATE_FAILED, ExitCode.OK)


def test_judging_twice_changes_nothing_and_a_new_policy_judges_the_same_figures(canonical: Report) -> None:
    policy = Policy(max_dead=0.05)
    assert judge(canonical, policy) == canonical
    again = judge(make_report([site(rate=0.02)]), Policy(rare_below=0.03, confidence=0.99))
    assert found(again) == [("DR004", "note", "a")]
    assert again.sites[0].silence_bound == pytest.approx(1 - 0.01 ** (1 / SAMPLES))
    assert again.settings["rare_below"] == 0.03
    assert again.settings["invocation"] == canonical.settings["invocation"]


def test_a_limit_by_glob_replaces_max_dead_and_the_last_match_wins() -> None:
    policy = Policy(max_dead=0.0, limits=(("a*", 1.0), ("ab", 0.1)))
    report = make_report([site("aa", 5), site("ab", 5), site("b", 5)], policy=policy)
    assert found(report) == [("DR001", "error", "ab"), ("DR001", "error", "b"), ("DR001", "note", "aa")]
    assert "the limit of 10% allows 2." in report.findings[0].message


def test_an_ignore_may_name_sites_and_a_reason() -> None:
    policy = Policy(max_dead=0.0, ignore=("DR001@head.*: pruned on purpose", "DR004: rare by design"))
    report = make_report([site("head.a", 5), site("body", 5, rate=0.001)], policy=policy)
    assert found(report) == [("DR001", "error", "body")]
    assert report.settings["ignore"] == ("DR001@head.*: pruned on purpose", "DR004: rare by design")
    with pytest.raises(UsageError, match="--ignore: there is no rule 'DR999'"):
        Policy(ignore=("DR999@a: x",))


def test_a_policy_can_be_read_from_the_settings_of_a_report() -> None:
    policy = Policy(max_dead=0.05, strict=True, select=("DR001",), limits=(("a=b", 0.1), ("c", 1 / 3)))
    report = Report.from_json(make_report([site()], policy=policy).to_json())
    assert Policy.from_settings(report.settings) == policy


@pytest.mark.parametrize("text", ["a", "=5%", "a=", "a=5x", "a=1"])
def test_a_limit_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_limit(text)
