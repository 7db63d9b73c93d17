"""GitLab accepts the Code Quality report: unique fingerprints, relative paths, its own severities."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from deadrelu.render import gitlab
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "gitlab-code-quality.json").read_text(encoding="utf-8"))


def issues(report: Report) -> list[dict[str, Any]]:
    """The issues, after the schema has taken them."""
    found = json.loads(gitlab.render(report).encode())
    Draft202012Validator(SCHEMA).validate(found)
    return list(found)


def test_gitlab_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.gitlab.json", gitlab.render(canonical))


def test_each_finding_is_an_issue_with_its_own_fingerprint(canonical: Report) -> None:
    found = issues(canonical)
    assert [issue["check_name"] for issue in found] == [finding.rule for finding in canonical.findings]
    assert len({issue["fingerprint"] for issue in found}) == len(found)
    severities = {"error": "critical", "warning": "major", "note": "info"}
    assert [issue["severity"] for issue in found] == [severities[finding.severity] for finding in canonical.findings]


def test_a_functional_call_is_shown_at_its_line(canonical: Report) -> None:
    (always_on,) = (issue for issue in issues(canonical) if issue["check_name"] == "DR005")
    assert always_on["location"] == {"path": "models/naïve 100%.py", "lines": {"begin": 42}}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("./a/b.pt", "a/b.pt"),
        ("/srv/a.pt", "srv/a.pt"),
        ("C:\\a\\b.pt", "a/b.pt"),
        (None, "model"),
        ("/", "model"),
        ("a\udcff", "a\\udcff"),
    ],
)
def test_every_path_is_relative(path: str | None, shown: str) -> None:
    report = make_report([make_stats(make_site("a", 2), [0.0, 0.5])])
    (issue,) = issues(replace(report, model=replace(report.model, path=path)))
    assert issue["location"] == {"path": shown, "lines": {"begin": 1}}


def test_without_findings_the_array_is_empty() -> None:
    assert gitlab.render(make_report([make_stats(make_site("a", 1), [0.5])])) == "[]\n"
