"""GitHub's runner reads workflow commands back exactly, whatever names a model has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadrelu.judge.policy import Policy
from deadrelu.render import github
from deadrelu.report import Report, Skipped
from tests.conftest import make_report, make_site, make_stats

COMMAND = re.compile(r"::(error|warning|notice) ([^\r\n]*?)::([^\r\n]*)")


def read(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Level, properties and message of each line, unescaped in the order of the runner's ActionCommand.cs."""
    out = []
    for line in text.split("\n")[:-1]:
        match = COMMAND.fullmatch(line)
        assert match, line
        given = dict(pair.split("=", 1) for pair in match[2].split(","))
        properties = {key: unescape(value, colon="%3A", comma="%2C") for key, value in given.items()}
        out.append((match[1], properties, unescape(match[3])))
    return out


def unescape(text: str, *, colon: str = "", comma: str = "") -> str:
    """The runner's unescape: the percent sign last."""
    text = text.replace("%0D", "\r").replace("%0A", "\n")
    if colon:
        text = text.replace(colon, ":").replace(comma, ",")
    return text.replace("%25", "%")


def test_annotations_match_the_golden_files(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("report.github.txt", github.render(canonical))


def test_the_verdict_comes_first_and_then_each_finding_errors_before_all(canonical: Report) -> None:
    found = read(github.render(canonical))
    assert found[0][1]["title"] == "deadrelu: FAIL"
    reason, conclusion = found[0][2].split("\n")
    assert reason.startswith("Weights are NaN or infinite; ")
    assert conclusion.startswith("14 of 148 units (9.5%) never fired")
    levels = [level for level, _, _ in found]
    assert levels == sorted(levels, key=["error", "warning", "notice"].index)
    assert [properties["title"] for _, properties, _ in found[1:]] == [f"deadrelu {f.rule}" for f in canonical.findings]


def test_every_command_has_a_file_and_a_line(canonical: Report) -> None:
    for _, properties, message in read(github.render(canonical)):
        if "relu6#1" in message:
            assert properties.items() >= {"file": "models/naïve 100%.py", "line": "42", "col": "9"}.items()
        else:
            assert properties.items() >= {"file": "models/naïve [bold]50%[/bold].pt", "line": "1"}.items()


@settings(max_examples=80, deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_no_name_ends_a_command_or_starts_another(name: str, path: str) -> None:
    stats = make_stats(make_site(f"\n::error::{name}", 2), [0.0, 0.5])
    skipped = (Skipped(id=name, op="relu", reason=f"{name}\r\n::set-output name=a::b"),)
    report = make_report([stats], skipped=skipped)
    report = replace(report, model=replace(report.model, path=f"m/{path}"))
    found = read(github.render(report))
    assert [level for level, _, _ in found] == ["warning", "warning", "notice"]
    assert {properties.keys() == {"file", "line", "title"} for _, properties, _ in found} == {True}


@pytest.mark.parametrize("path", ["a,b:c%3A.pt", "a\r\nb.pt", "line=7,title=x"])
def test_a_file_name_is_preserved_exactly(path: str) -> None:
    report = make_report([make_stats(make_site("a", 2), [0.0, 0.5])])
    for _, properties, _ in read(github.render(replace(report, model=replace(report.model, path=path)))):
        assert properties["file"] == path


@pytest.mark.parametrize(("sites", "shown"), [(9, 10), (10, 10), (60, 10)])
def test_of_many_errors_the_last_annotation_names_the_rest(sites: int, shown: int) -> None:
    stats = [make_stats(make_site(f"s{n}", 2), [0.0, 0.5]) for n in range(sites)]
    found = read(github.render(make_report(stats, policy=Policy(max_dead=0.0))))
    assert Counter(level for level, _, _ in found) == {"error": shown}
    named = "\n".join(message for _, _, message in found)
    counted = int((re.search(r"and (\d+) more\.", named) or ["", "0"])[1])
    assert len(set(re.findall(r"\bs\d+\b", named))) + counted == sites


@pytest.mark.parametrize(
    ("report", "level"),
    [(make_report([make_stats(make_site("a", 1), [0.5])]), "notice"), (make_report([]), "error")],
)
def test_a_run_without_findings_reports_its_verdict(report: Report, level: str) -> None:
    assert [found[0] for found in read(github.render(report))] == [level]


def test_a_model_in_memory_has_a_title_and_no_file(canonical: Report) -> None:
    found = read(github.render(replace(canonical, model=replace(canonical.model, path=None))))
    assert found[0][1] == {"title": "deadrelu: FAIL"}
