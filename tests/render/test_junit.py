"""The schemas of Jenkins and Ant accept the JUnit XML, and each site has a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.render import junit
from deadrelu.report import Finding, Report, Skipped
from tests.conftest import make_report, make_site, make_stats

SCHEMAS = {name: Path(__file__).parent / "schemas" / f"{name}.xsd" for name in ("junit-10", "junit-ant")}
HOSTILE = ["", "  ", "a\x00b\x0b\ufffe\ud800", "]]>", "<a/>", "a\nb\tc", '"&amp;', "é" * 2000]


def suite(report: Report) -> etree._Element:
    """The test suite, after both schemas have taken the file."""
    tree = etree.fromstring(junit.render(report).encode())
    for path in SCHEMAS.values():
        etree.XMLSchema(etree.parse(str(path))).assertValid(tree)
    (only,) = tree
    return only


def outcomes(report: Report) -> dict[str, str]:
    """What each case came to, by its name."""
    cases = suite(report).findall("testcase")
    return {case.get("name", ""): (case[0].tag if len(case) else "passed") for case in cases}


def test_junit_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.xml", junit.render(canonical))


def test_each_site_is_a_case_and_skipped_is_skipped(canonical: Report) -> None:
    assert outcomes(canonical) == {
        "whole scan: DR003": "failure",
        "stem.relu": "passed",
        "layer1.0.[red]relu#1": "failure",
        "layer1.0.[red]relu#2": "passed",
        'we"ird\\nnäme|%0A': "failure",
        "features.denseblock1:relu6#1": "passed",
        "classifier.hidden.act": "failure",
        "aux.[bold]relu": "skipped",
        "attention.mask|ü": "skipped",
    }


def test_the_counts_are_those_of_the_cases(canonical: Report) -> None:
    strict = judge(canonical, Policy(strict=True))
    for report in (canonical, strict, make_report([])):
        only = suite(report)
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(only.get(count, "")) == len(only.findall(f"testcase/{tag}"))
        assert int(only.get("tests", "")) == len(only.findall("testcase"))


def test_a_failure_lists_the_units_and_the_advice(canonical: Report) -> None:
    (failure,) = suite(canonical).xpath("testcase[@name='layer1.0.[red]relu#1']/failure")
    assert failure.get("type") == "DR001"
    assert failure.get("message") == "5 of 64 units are dead (7.8%); the limit of 5% allows 3."
    assert "Units 1, 5, 9–11." in failure.text
    assert "Lower the learning rate" in failure.text


def test_two_errors_of_one_site_are_one_failure(canonical: Report) -> None:
    (failure,) = suite(canonical).xpath("testcase[@name='classifier.hidden.act']/failure")
    assert failure.get("type") == "DR003, DR001"


def test_warnings_and_notes_do_not_fail_and_are_in_the_output() -> None:
    report = make_report([make_stats(make_site("a", 4), [0.0, 0.001, 0.5, 0.5])])
    assert outcomes(report) == {"a": "passed"}
    output = suite(report).findtext("system-out") or ""
    assert "warning: DR001 a: 1 of 4 units is dead" in output
    assert "note: DR004 a: 1 of 4 units fired" in output


def test_a_strict_skip_is_a_failure() -> None:
    sites = [make_stats(make_site("a", 1), [0.5])]
    skipped = (Skipped(id="aux", op="relu", reason="never called"),)
    assert outcomes(make_report(sites, skipped=skipped)) == {"a": "passed", "aux": "skipped"}
    assert outcomes(make_report(sites, skipped=skipped, policy=Policy(strict=True)))["aux"] == "failure"


def test_an_error_at_an_unmeasured_site_has_its_own_case(canonical: Report) -> None:
    gone = Finding(rule="DR001", severity="error", site="gone", message="Gone.", suggestion="Look.")
    assert outcomes(replace(canonical, findings=(gone,)))["gone"] == "failure"


def test_a_clean_run_has_passing_cases_and_an_empty_run_has_an_error() -> None:
    assert outcomes(make_report([make_stats(make_site("a", 2), [0.5, 0.5])])) == {"a": "passed"}
    assert list(outcomes(make_report([])).values()) == ["error"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_the_xml(name: str) -> None:
    stats = make_stats(make_site(name, 2, after=name), [0.0, 0.5])
    report = make_report([stats], skipped=(Skipped(id=name, op=name, reason=name),), policy=Policy(max_dead=0.0))
    report = replace(report, model=replace(report.model, path=name))
    assert len(suite(report).findall("testcase")) == 2


def test_the_schemas_would_refuse_a_wrong_file() -> None:
    for path in SCHEMAS.values():
        assert not etree.XMLSchema(etree.parse(str(path))).validate(etree.fromstring("<testsuites><a/></testsuites>"))
