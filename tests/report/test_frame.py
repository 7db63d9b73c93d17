"""The report as a data frame: one row per site or unit, with types that do not depend on the content."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy
from deadrelu.report import Report
from tests.conftest import canonical_sites, make_report

pandas = pytest.importorskip("pandas")


def test_one_row_per_site_adds_up_to_the_summary(canonical: Report) -> None:
    frame = canonical.to_pandas()
    assert list(frame["site"]) == [stats.site.id for stats in canonical.sites]
    assert frame[["units", "dead", "rare", "always_on"]].sum().to_dict() == {
        "units": 148,
        "dead": 14,
        "rare": canonical.summary.rare,
        "always_on": 24,
    }
    row = frame.set_index("site").loc["layer1.0.[red]relu#1"]
    assert row["dead_fraction"] == 5 / 64
    assert row["headroom"] == -0.2
    assert row["firing_rate"] == pytest.approx(sum(canonical.sites[1].firing_rate) / 64)
    assert frame["source"].dropna().tolist() == ["models/naïve 100%.py:42"]
    assert frame["headroom"].isna().tolist() == [True, False, True, False, True, False]


def test_one_row_per_unit_marks_every_dead_unit(canonical: Report) -> None:
    frame = canonical.to_pandas(units=True)
    assert len(frame) == 148
    dead = frame[frame["dead"]].groupby("site", sort=False)["unit"].apply(tuple).to_dict()
    assert dead == {stats.site.id: stats.dead_units for stats in canonical.sites if stats.dead}
    assert (frame["firing_rate"] == 0)[frame["dead"]].all()
    assert frame.loc[frame["nonfinite"], ["site", "unit"]].to_numpy().tolist() == [["classifier.hidden.act", 1]]


@pytest.mark.parametrize("units", [False, True])
def test_columns_have_the_same_types_without_rows_and_without_figures(canonical: Report, units: bool) -> None:
    unknown = tuple(
        replace(stats, firing_rate=(None,) * stats.site.units, max_preactivation=(None,) * stats.site.units)
        for stats in canonical.sites
    )
    figures = ["dead", "rare", "nonfinite", "firing_rate", "max_preactivation" if units else "headroom"]
    types = canonical.to_pandas(units=units).dtypes[figures]
    assert types["dead"] == ("bool" if units else "int64")
    assert types["firing_rate"] == "float64"
    for other in (replace(canonical, sites=unknown), make_report([])):
        assert other.to_pandas(units=units).dtypes[figures].to_dict() == types.to_dict()
    assert replace(canonical, sites=unknown).to_pandas(units=units)["firing_rate"].isna().all()


def test_the_units_of_another_definition_have_a_column_beside_the_dead(canonical: Report) -> None:
    report = make_report(canonical_sites(), policy=Policy(definition="apoz", tau=0.5))
    sites, units = report.to_pandas(), report.to_pandas(units=True)
    assert units.dtypes["dead_by_definition"] == "bool"
    assert sites.dtypes["dead_by_definition"] == "int64"
    for stats in report.sites:
        of_site = units[units["site"] == stats.site.id]
        assert tuple(of_site.loc[of_site["dead_by_definition"], "unit"]) == stats.definition_units
    assert list(sites["dead_by_definition"]) == [len(stats.definition_units or ()) for stats in report.sites]
    assert units["dead_by_definition"].sum() > units["dead"].sum() == canonical.summary.dead
    assert "dead_by_definition" not in {*canonical.to_pandas(), *canonical.to_pandas(units=True)}
    assert "dead_by_definition" in make_report([], policy=Policy(definition="apoz")).to_pandas(units=True)


def test_without_pandas_the_error_says_what_to_install(canonical: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError) as raised:
        canonical.to_pandas()
    assert "Report.to_pandas needs pandas" in raised.value.message
    assert raised.value.hint == "pip install pandas"
