"""The official schema accepts the SARIF, and GitHub's code scanning can locate each result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from jsonschema import Draft4Validator

from deadrelu.judge.rules import RULES
from deadrelu.render import sarif
from deadrelu.report import Finding, Report
from tests.conftest import make_report, make_site, make_stats

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
HOSTILE = ["{0}", "[x](https://a.invalid)", "a\x00b\ud800", "</script>", "é" * 300, ""]


def run(report: Report) -> dict[str, Any]:
    """The one run of the log, after the official schema has taken the log."""
    log = json.loads(sarif.render(report).encode())
    Draft4Validator(SCHEMA).validate(log)
    (only,) = log["runs"]
    return dict(only)


def test_sarif_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.sarif", sarif.render(canonical))


def test_the_official_schema_accepts_it_and_would_refuse_a_wrong_level(canonical: Report) -> None:
    run(canonical)
    broken = json.loads(sarif.render(canonical))
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not Draft4Validator(SCHEMA).is_valid(broken)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_schema_accepts_any_name(name: str) -> None:
    stats = make_stats(make_site(name, 2, after=name), [0.0, 0.5])
    report = make_report([stats], nonfinite_weights={name: 1})
    run(replace(report, model=replace(report.model, path=name or None)))


def test_each_finding_is_a_result_of_its_rule_and_level(canonical: Report) -> None:
    only = run(canonical)
    rules = only["tool"]["driver"]["rules"]
    results = only["results"]
    assert [rule["id"] for rule in rules] == list(RULES)
    assert all(rule["help"]["text"] and rule["help"]["markdown"] for rule in rules)
    assert len(results) == len(canonical.findings)
    for result, finding in zip(results, canonical.findings, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.rule
        assert result["level"] == finding.severity
        assert result["properties"]["units"] == list(finding.units)


def test_each_result_has_a_location_that_github_can_show(canonical: Report) -> None:
    for result, finding in zip(run(canonical)["results"], canonical.findings, strict=True):
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        uri, region = physical["artifactLocation"]["uri"], physical["region"]
        assert "\\" not in uri
        if finding.site == "features.denseblock1:relu6#1":
            assert unquote(uri) == "models/naïve 100%.py"
            assert region == {"startLine": 42, "startColumn": 9, "endColumn": 18}
        else:
            assert unquote(uri) == canonical.model.path
            assert region == {"startLine": 1}
        named = [logical["fullyQualifiedName"] for logical in location.get("logicalLocations", [])]
        assert named == ([] if finding.site is None else [finding.site])


def test_a_failed_gate_is_not_an_error_of_the_tool_but_measuring_nothing_is(canonical: Report) -> None:
    assert run(canonical)["invocations"] == [{"executionSuccessful": True}]
    (invocation,) = run(make_report([]))["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "No activation site ran" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_a_name_is_neither_a_placeholder_nor_a_link() -> None:
    stats = make_stats(make_site("{0}[x](https://a.invalid)", 2), [0.0, 0.5])
    text = run(make_report([stats]))["results"][0]["message"]["text"]
    assert text.startswith(r"{{0}}[x\](https://a.invalid): 1 of 2 units is dead")


def test_two_models_have_two_categories_and_a_model_in_memory_has_no_artifact(canonical: Report) -> None:
    other = replace(canonical, model=replace(canonical.model, path="b.pt"))
    assert run(canonical)["automationDetails"] != run(other)["automationDetails"]
    in_memory = run(replace(canonical, model=replace(canonical.model, path=None)))
    assert in_memory["artifacts"] == []
    assert "physicalLocation" not in in_memory["results"][1]["locations"][0]


def test_a_rule_of_a_later_version_is_listed_by_its_code(canonical: Report) -> None:
    new = Finding(rule="DR999", severity="note", site=None, message="New.", suggestion="Look.")
    only = run(replace(canonical, findings=(new,)))
    assert only["tool"]["driver"]["rules"][only["results"][0]["ruleIndex"]] == {"id": "DR999"}
