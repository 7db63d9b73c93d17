"""The JSON of a report: the schema fits exactly, and what was written reads back."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from deadrelu.errors import FileError
from deadrelu.judge.judgement import conclude
from deadrelu.report import (
    DataInfo,
    Finding,
    ModelInfo,
    Report,
    Site,
    SiteStats,
    Skipped,
    Source,
    Tool,
)
from tests.conftest import make_report, make_site, make_stats

SCHEMA = json.loads(files("deadrelu").joinpath("report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
natural = st.integers(0, 10**12)
positive = st.integers(1, 10**6)
fraction = st.floats(0, 1)
figure = st.none() | st.floats(allow_nan=False, allow_infinity=False)
column = st.none() | positive
sources = st.builds(Source, file=text, line=positive, column=column, end_column=column)


@st.composite
def stats(draw: st.DrawFn) -> SiteStats:
    """Any site with up to five units, each of them in one class at most."""
    units = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from(["dead", "rare", "on", "nonfinite", ""]), min_size=units, max_size=units))

    def each(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(values) for _ in range(units))

    def those(kind: str) -> tuple[int, ...]:
        return tuple(unit for unit, of in enumerate(kinds) if of == kind)

    site = draw(
        st.builds(
            Site,
            call=positive,
            calls=positive,
            source=st.none() | sources,
            feature_axis=st.integers(-8, 8),
            shape=st.lists(natural | st.sampled_from(["N", "*"]), max_size=4).map(tuple),
            units=st.just(units),
            **dict.fromkeys(("id", "op", "module", "after"), text),
        )
    )
    return SiteStats(
        site=site,
        samples=draw(natural),
        positions=draw(natural),
        rows=draw(natural),
        rate_per=draw(st.sampled_from(["sample", "row"])),
        dead_units=those("dead"),
        rare_units=those("rare"),
        always_on_units=those("on"),
        nonfinite_units=those("nonfinite"),
        firing_rate=tuple(0.0 if of == "dead" else draw(fraction) for of in kinds),
        sample_rate=each(fraction),
        max_preactivation=each(figure),
        mean_activation=each(figure),
        dormancy=each(figure),
        silence_bound=draw(fraction),
    )


findings = st.builds(
    Finding,
    rule=st.sampled_from(["DR001", "DR009"]),
    site=st.none() | text,
    units=st.lists(natural, max_size=4, unique=True).map(tuple),
    message=text,
    suggestion=text,
)


def consistent(report: Report) -> Report:
    """The same with each site once, findings about what it holds alone, and the verdict that they give."""
    sites = tuple({stats.site.id: stats for stats in report.sites}.values())
    skipped = tuple({site.id: site for site in report.skipped}.values())
    units = {stats.site.id: stats.site.units for stats in sites}
    known = (None, *units, *(site.id for site in skipped))
    found = []
    for number, finding in enumerate(report.findings):
        site = known[number % len(known)]
        size = units.get(site or "", 0) if site in units else 0
        found.append(replace(finding, site=site, units=tuple({unit % size for unit in finding.units}) if size else ()))
    return conclude(replace(report, sites=sites, skipped=skipped), found)


reports = st.builds(
    Report,
    tool=st.builds(Tool, name=text, version=text, torch=text),
    model=st.builds(
        ModelInfo,
        path=st.none() | text,
        format=text,
        sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
        parameters=natural,
        nonfinite_weights=st.dictionaries(text, positive, max_size=3),
    ),
    data=st.builds(DataInfo, source=st.none() | text, samples=natural, batches=natural, seed=st.none() | natural),
    settings=st.dictionaries(
        text,
        text | natural | fraction | st.booleans() | st.none() | st.lists(text, max_size=3).map(tuple),
        max_size=4,
    ),
    sites=st.lists(stats(), max_size=3).map(tuple),
    skipped=st.lists(st.builds(Skipped, id=text, op=text, reason=text), max_size=2).map(tuple),
    findings=st.lists(findings, max_size=2).map(tuple),
).map(consistent)
few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(reports)
def test_a_report_reads_back_and_fits_the_schema(report: Report) -> None:
    written = report.to_json()
    VALIDATOR.validate(json.loads(written))
    again = Report.from_json(written)
    assert again == report
    assert again.to_json() == written


def test_the_canonical_and_the_empty_report_fit_the_schema(canonical: Report) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(canonical.to_json()))
    VALIDATOR.validate(json.loads(make_report([]).to_json()))


LATER = {
    *("column", "end_column", "feature_axis_by"),
    *("saturated", "saturated_units", "saturated_high_units", "min_preactivation", "causes"),
}
"""The keys that later versions added: reports without them are still read."""


def objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each JSON object whose keys the contract fixes."""
    if isinstance(value, dict):
        if path[-1:] not in (("settings",), ("nonfinite_weights",), ("evidence",)):
            yield path
        for key, inner in value.items():
            yield from objects(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects(inner, (*path, index))


def test_the_schema_refuses_a_missing_key_and_an_unknown_one_everywhere(canonical: Report) -> None:
    written = canonical.to_json()
    seen = 0
    for path in objects(json.loads(written)):
        keys = at(json.loads(written), path)
        for key in keys.keys() - LATER:
            broken = json.loads(written)
            del at(broken, path)[key]
            assert not VALIDATOR.is_valid(broken), (path, key)
            seen += 1
        broken = json.loads(written)
        at(broken, path)["surprise"] = 1
        assert not VALIDATOR.is_valid(broken), path
    assert seen > 150


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What lies at the path."""
    for step in path:
        value = value[step]
    return value


def test_nonfinite_numbers_are_null(canonical: Report) -> None:
    site = replace(canonical.sites[0], mean_activation=(float("nan"), float("inf"), *[1.0] * 14))
    written = json.loads(replace(canonical, sites=(site,)).to_json())
    assert written["sites"][0]["mean_activation"][:3] == [None, None, 1.0]


def test_the_summary_is_the_sum_of_the_sites(canonical: Report) -> None:
    summary, sites = canonical.to_dict()["summary"], canonical.to_dict()["sites"]
    assert summary["units"] == sum(site["units"] for site in sites) == 148
    assert summary["dead"] == sum(len(site["dead_units"]) for site in sites) == 14
    assert summary["dead_fraction"] == 14 / 148
    assert (summary["sites"], summary["skipped"], summary["verdict"]) == (6, 2, "fail")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("{", "not a JSON report"),
        ("[]", "not a deadrelu report of schema version 1"),
        ('{"schema_version": 2}', "schema_version is 2"),
        ('{"schema_version": 1}', "a broken deadrelu report"),
    ],
)
def test_data_that_is_not_a_report_is_refused_with_the_next_command(broken: str, says: str) -> None:
    with pytest.raises(FileError) as caught:
        Report.from_json(broken)
    assert says in caught.value.message
    assert "deadrelu scan" in caught.value.hint


def test_sites_are_indexed_by_position_slice_and_id(canonical: Report) -> None:
    sites = canonical.sites
    assert sites["layer1.0.[red]relu#1"] is sites[1] is sites[-5]
    assert [stats.site.id for stats in sites[:2]] == ["stem.relu", "layer1.0.[red]relu#1"]
    assert sites[:2]["stem.relu"] is sites[0]
    assert "stem.relu" in sites
    assert "stem" not in sites
    assert sites[3] in sites


def test_sites_are_otherwise_a_plain_tuple(canonical: Report) -> None:
    plain = tuple(canonical.sites)
    assert canonical.sites == plain
    assert hash(canonical.sites) == hash(plain)
    assert replace(canonical, sites=plain) == canonical
    assert replace(canonical, sites=plain).sites["stem.relu"] is plain[0]
    assert pickle.loads(pickle.dumps(canonical.sites)) == plain
    assert copy.deepcopy(canonical).sites["stem.relu"] == plain[0]
    with pytest.raises(TypeError):
        canonical.sites[0] = plain[1]  # type: ignore[index]
    with pytest.raises(IndexError):
        canonical.sites[6]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("layer1.0.[red]relu", "did you mean 'layer1.0.[red]relu#1', 'layer1.0.[red]relu#2'?"),
        ("layer1.0.[red]relu#3", "did you mean 'layer1.0.[red]relu#1', 'layer1.0.[red]relu#2'?"),
        ("stem.rleu", "did you mean 'stem.relu'?"),
        ("Hidden", "did you mean 'classifier.hidden.act'?"),
        ("zzz", "there are 'stem.relu', 'layer1.0.[red]relu#1', "),
    ],
)
def test_an_unknown_id_gets_similar_ids(canonical: Report, key: str, message: str) -> None:
    with pytest.raises(KeyError) as raised:
        canonical.sites[key]
    assert f"no site {key!r}; {message}" in raised.value.args[0]


def test_indexing_a_report_without_sites_says_so() -> None:
    with pytest.raises(KeyError, match="the report has none"):
        make_report([]).sites["stem.relu"]


def test_the_repr_of_a_report_is_one_short_line(canonical: Report) -> None:
    assert repr(canonical) == (
        "<Report models/naïve [bold]50%[/bold].pt: FAIL, 14 of 148 units dead (9.5%) at 6 sites, 2 skipped>"
    )
    assert repr(canonical.sites["stem.relu"]) == "<SiteStats stem.relu: 0 of 16 units dead on 1,797 samples>"
    assert repr(canonical.findings[0]).startswith("<Finding DR003 error: 2 weights are NaN")
    found = next(finding for finding in canonical.findings if finding.site == "layer1.0.[red]relu#1")
    assert (
        repr(found)
        == "<Finding DR001 error at layer1.0.[red]relu#1: 5 of 64 units are dead (7.8%); the limit of 5% allows 3.>"
    )


def test_a_repr_holds_no_control_codes() -> None:
    report = make_report([make_stats(make_site("a\x1b[2Jb\nc", 2), [0.0, 0.5])])
    for noun in (report, *report.sites, *report.findings):
        assert repr(noun).isprintable()
    assert "a\\x1b[2Jb\\nc" in repr(report.sites[0])


def test_a_report_in_which_every_axis_is_a_guess_reads_back() -> None:
    """Nothing was measured in it that could pass, although it has a site."""
    guessed = replace(make_site("relu", 4), feature_axis_by="guess")
    report = make_report([make_stats(guessed, [0.5] * 4)])
    assert report.verdict == "nothing measured"
    assert Report.from_json(report.to_json()) == report
