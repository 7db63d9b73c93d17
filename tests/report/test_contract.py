"""A report that breaks the schema is refused, and the error says where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deadrelu.errors import FileError
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats


def _site(number: int, key: str, value: Any) -> Callable[[Any], None]:
    return lambda report: report["sites"][number].update({key: value})


def _summary(key: str, value: Any) -> Callable[[Any], None]:
    return lambda report: report["summary"].update({key: value})


def _finding(key: str, value: Any) -> Callable[[Any], None]:
    return lambda report: report["findings"][0].update({key: value})


def _twice(key: str) -> Callable[[Any], None]:
    return lambda report: report[key].append(report[key][0])


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "a unit out of range": (_site(1, "dead_units", [1, 5, 9, 10, 64]), r"sites\[1\].dead_units names unit 64 of 64"),
    "a negative unit": (_site(1, "rare_units", [-1]), r"sites\[1\].rare_units is -1, out of range"),
    "a unit named twice": (_site(1, "dead_units", [1, 5, 9, 10, 10]), "lists an entry twice"),
    "a unit that is not a number": (_site(1, "dead_units", [1, 5, 9, 10, True]), "True, not of type integer"),
    "a negative count": (_site(0, "samples", -5), r"sites\[0\].samples is -5, out of range"),
    "a huge count": (_site(0, "positions", 10**400), "out of range"),
    "a rate above 1": (_site(0, "firing_rate", [0.5] * 15 + [1.5]), r"firing_rate is 1.5, out of range"),
    "a rate below 0": (_site(0, "sample_rate", [0.5] * 15 + [-0.5]), r"sample_rate is -0.5, out of range"),
    "a rate that is not a number": (_site(0, "firing_rate", ["0.5"] * 16), "'0.5', not of type number or null"),
    "a bound above 1": (_site(0, "silence_bound", 2), "silence_bound is 2, out of range"),
    "too few rates": (_site(0, "firing_rate", [0.5] * 15), "has 15 entries for 16 units"),
    "a count of dead units that is another": (_site(1, "dead", 4), "counts 4 dead units and lists 5"),
    "a share of dead units that is another": (_site(1, "dead_fraction", 0.5), "dead units and lists"),
    "a dead unit that fired": (_site(1, "dead_units", [1, 5, 9, 10, 12]), "as dead that fired"),
    "a site without units": (_site(0, "units", 0), r"units is 0, out of range"),
    "a site listed twice": (_twice("sites"), "the site 'stem.relu' is listed twice"),
    "a skipped site that does": (_twice("skipped"), "the skipped site .* is listed twice"),
    "a verdict that is another": (_summary("verdict", "pass"), "the verdict is 'pass', but the findings give 'fail'"),
    "no verdict": (_summary("verdict", "maybe"), "'maybe', not one of pass, fail, nothing measured"),
    "a sum that is another": (_summary("dead", 13), "summary.dead is 13, but the sites have 14"),
    "a share that is another": (_summary("dead_fraction", 0.0), "summary.dead_fraction is 0.0"),
    "a finding of another site": (_finding("site", "gone"), "is about 'gone', which is not a site"),
    "a finding of a unit that is none": (_finding("units", [999]), "names unit"),
    "a rule that is none": (_finding("rule", "DEAD"), "which does not match"),
    "a severity that is none": (_finding("severity", "fatal"), "not one of error, warning, note"),
    "another kind of data": (lambda report: report["data"].update(kind="real"), "not one of dataset, synthetic"),
    "a setting that is an object": (lambda report: report["settings"].update(a={}), r"settings\['a'\] is an object"),
    "a list of findings that is none": (lambda report: report.update(findings={}), "findings is an object"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_schema_is_refused_and_named(canonical: Report, name: str) -> None:
    change, message = BROKEN[name]
    broken = json.loads(canonical.to_json())
    change(broken)
    with pytest.raises(FileError, match=f"a broken deadrelu report: .*{message}"):
        Report.from_json(json.dumps(broken))


@pytest.mark.parametrize("strict", [False, True])
def test_a_report_with_only_guessed_sites_is_read_back(strict: bool) -> None:
    site = replace(make_site("relu", 4), feature_axis_by="guess")
    report = judge(make_report([make_stats(site, [0.5] * 4)]), Policy(strict=strict))
    assert report.verdict == ("fail" if strict else "nothing measured")
    assert Report.from_json(report.to_json()) == report


def test_nonfinite_figures_are_refused(canonical: Report) -> None:
    for text in ("1e999", "NaN", "-Infinity"):
        broken = json.loads(canonical.to_json())
        broken["sites"][0]["mean_activation"][3] = "HERE"
        with pytest.raises(FileError, match="mean_activation is not finite"):
            Report.from_json(json.dumps(broken).replace('"HERE"', text))


def test_integers_are_accepted_as_fractions_and_unknown_keys_are_ignored(canonical: Report) -> None:
    written = json.loads(canonical.to_json())
    written["sites"][4]["firing_rate"] = [1] * 24
    written["sites"][0]["later"] = {"a": 1}
    assert Report.from_json(json.dumps(written)) == canonical


def test_a_large_report_is_read_in_little_more_time_than_its_json() -> None:
    stats = make_stats(make_site("relu", 200_000), [0.25] * 200_000)
    text = make_report([replace(stats)]).to_json()
    start = time.perf_counter()
    json.loads(text)
    plain = time.perf_counter() - start
    start = time.perf_counter()
    Report.from_json(text)
    assert time.perf_counter() - start < 4 * plain + 0.2
