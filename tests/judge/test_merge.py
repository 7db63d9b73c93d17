"""Merging adds counts exactly, in any order and grouping, and refuses reports that do not belong together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadrelu.errors import UsageError
from deadrelu.judge.merge import common_policy, counts_of, merge
from deadrelu.judge.policy import Policy
from deadrelu.report import NO_ROWS, Counts, Report, Skipped
from tests.judge.reports import dead_report, measured, of_other_bytes

Measured = tuple[Report, dict[str, Counts]]
few = settings(max_examples=25, deadline=None)


def plain(report: Report) -> dict[str, Any]:
    """The report as JSON types, with means and dormancy rounded: sums of floats depend on their order a little."""
    out = report.to_dict()
    for site in out["sites"]:
        for name in ("mean_activation", "dormancy"):
            values = (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12) for value in site[name])
            site[name] = tuple(values)
    return out


@few
@given(measured())
def test_counts_are_recovered_exactly_from_a_report_that_was_written_and_read(made: Measured) -> None:
    report, counted = made
    for stats in Report.from_json(report.to_json()).sites:
        back, true = counts_of(stats), counted[stats.site.id]
        assert (back.fires, back.row_fires, back.maxima) == (true.fires, true.row_fires, true.maxima)
        assert (back.samples, back.rows, back.positions) == (true.samples, true.rows, true.positions)
        assert back.nonfinite == true.nonfinite
        assert back.output_sums == pytest.approx(true.output_sums, rel=1e-9)


@few
@given(measured(), measured())
def test_merging_adds_the_counts_and_a_unit_is_dead_only_if_it_is_dead_in_both(a: Measured, b: Measured) -> None:
    both = merge([a[0], b[0]])
    assert both.data.samples == a[0].data.samples + b[0].data.samples
    for place, stats in enumerate(both.sites):
        first, second = a[1][stats.site.id], b[1][stats.site.id]
        positions = first.positions + second.positions
        assert stats.positions == positions
        expected = tuple((x + y) / positions for x, y in zip(first.fires, second.fires, strict=True))
        assert stats.firing_rate == expected
        finite = {u for u in range(6) if not first.nonfinite[u] and not second.nonfinite[u]}
        dead = set(a[0].sites[place].dead_units) & set(b[0].sites[place].dead_units) & finite
        assert set(stats.dead_units) == dead


@few
@given(measured(), measured())
def test_merging_is_commutative(a: Measured, b: Measured) -> None:
    assert merge([a[0], b[0]]).to_dict() == plain(merge([b[0], a[0]]))


@few
@given(measured(), measured(), measured())
def test_merging_is_associative(a: Measured, b: Measured, c: Measured) -> None:
    left, right = merge([merge([a[0], b[0]]), c[0]]), merge([a[0], merge([b[0], c[0]])])
    assert left.to_dict() == plain(right)
    assert merge([a[0], b[0], c[0]]).to_dict() == plain(left)


@few
@given(measured())
def test_merging_one_report_returns_it(a: Measured) -> None:
    assert merge([a[0]]).to_dict() == a[0].to_dict()


@few
@given(measured(), measured())
def test_a_merged_report_can_be_written_and_read(a: Measured, b: Measured) -> None:
    both = merge([a[0], b[0]])
    assert Report.from_json(both.to_json()).to_json() == both.to_json()


def test_reports_of_different_models_sites_or_kinds_of_data_are_refused() -> None:
    report = dead_report({"a": (1,), "b": ()})
    with pytest.raises(UsageError, match="different models"):
        merge([report, of_other_bytes(report)])
    with pytest.raises(UsageError, match="the site b was measured in one of the reports only"):
        merge([report, dead_report({"a": (1,)})])
    with pytest.raises(UsageError, match="the site a is not the same"):
        merge([report, dead_report({"a": (1,), "b": ()}, units=7)])
    with pytest.raises(UsageError, match="synthetic data"):
        merge([report, replace(report, data=replace(report.data, kind="synthetic"))])
    with pytest.raises(UsageError, match="no report"):
        merge([])


def test_the_limits_are_those_of_the_reports_or_those_that_are_given() -> None:
    a, b = dead_report({"a": (1,)}, policy=Policy(max_dead=0.9)), dead_report({"a": (1,)}, policy=Policy(max_dead=0.1))
    assert (merge([a, a]).verdict, merge([b, b]).verdict) == ("pass", "fail")
    with pytest.raises(UsageError, match="different limits"):
        merge([a, b])
    assert merge([a, b], common_policy([a, b], max_dead=0.5)).verdict == "pass"


def test_a_merged_report_marks_varying_sizes_and_keeps_the_skipped_sites_of_both() -> None:
    a = dead_report({"a": ()})
    wide = replace(a.sites[0], site=replace(a.sites[0].site, shape=("N", 6, 9, "*")))
    skipped = (Skipped(id="z", op="relu", reason="never called"),)
    both = merge([a, replace(a, sites=(wide,), skipped=skipped)])
    assert both.sites[0].site.shape == ("N", 6, "*", "*")
    assert both.skipped == skipped


@pytest.mark.parametrize("why", ["never called: no batch reached it", NO_ROWS])
def test_a_site_that_the_data_of_one_report_did_not_reach_has_the_figures_of_the_other(why: str) -> None:
    unreached = Skipped(id="b", op="relu", reason=why)
    one, two = replace(dead_report({"a": (1,)}), skipped=(unreached,)), dead_report({"b": (2,), "a": (1,)})
    for both in (merge([one, two]), merge([two, one]), merge([one, merge([two, one])])):
        found = {stats.site.id: stats for stats in both.sites}
        assert list(found) == ["a", "b"]
        assert (found["b"].samples, found["b"].dead_units, both.skipped) == (400, (2,), ())
        assert found["a"].samples in (800, 1200)
    assert merge([one, one]).skipped == (unreached,)
    with pytest.raises(UsageError, match="the site b was measured in one of the reports only"):
        merge([two, replace(one, skipped=(replace(unreached, reason="its pre-activation is a sparse tensor"),))])


def test_a_merged_report_names_the_older_version() -> None:
    report = dead_report({"a": ()})
    newer = replace(report, tool=replace(report.tool, version="9.0.0"))
    assert merge([newer, report]).tool == merge([report, newer]).tool == report.tool


def test_the_padding_of_one_scan_is_left_out_of_the_merged_report() -> None:
    report = dead_report({"a": (1,)})
    padded = replace(report, settings=report.settings | {"padding": ("5 of 10 positions (mask)",)})
    assert "padding" not in merge([padded, padded]).settings


@given(st.permutations(["a.npz", "b.npz", "c.npz"]))
def test_the_source_names_each_data_set_once(order: list[str]) -> None:
    reports = [dead_report({"a": ()}) for _ in order]
    named = [replace(r, data=replace(r.data, source=s)) for r, s in zip(reports, order, strict=True)]
    assert merge([*named, named[0]]).data.source == "a.npz + b.npz + c.npz"
