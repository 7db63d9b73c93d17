"""Comparison and trend: planted changes, and laws for any two reports."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import UsageError
from deadrelu.judge.compare import compare
from deadrelu.judge.trend import trend
from tests.judge.reports import SITES, UNITS, dead_report

units = st.sets(st.integers(0, UNITS - 1)).map(lambda found: tuple(sorted(found)))
states = st.dictionaries(st.sampled_from(SITES), units, min_size=1)


def test_each_kind_of_change_is_named() -> None:
    old = dead_report({"worse": (1,), "better": (1, 2), "changed": (3,), "same": (4,), "gone": ()})
    new = dead_report({"new": (5,), "worse": (1, 2, 3), "better": (2,), "changed": (0,), "same": (4,)})
    found = {site.id: (site.change, site.newly_dead, site.revived) for site in compare(old, new).sites}
    assert found == {
        "new": ("new", (), ()),
        "worse": ("worse", (2, 3), ()),
        "better": ("better", (), (1,)),
        "changed": ("changed", (0,), (3,)),
        "same": ("same", (), ()),
        "gone": ("gone", (), ()),
    }
    assert [site.id for site in compare(old, new).worse] == ["new", "worse"]


@given(states, states)
def test_units_that_died_in_one_direction_revived_in_the_other(
    before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]
) -> None:
    there, back = compare(dead_report(before), dead_report(after)), compare(dead_report(after), dead_report(before))
    other = {site.id: site for site in back.sites}
    opposite = {"worse": "better", "better": "worse", "new": "gone", "gone": "new"}
    for site in there.sites:
        mirrored = other[site.id]
        assert (site.newly_dead, site.revived) == (mirrored.revived, mirrored.newly_dead)
        assert mirrored.change == opposite.get(site.change, site.change)
        if site.old and site.new:
            assert len(site.newly_dead) - len(site.revived) == site.new.dead - site.old.dead
    json.dumps(there.to_dict(), allow_nan=False)


@given(states)
def test_a_report_is_no_worse_than_itself(state: dict[str, tuple[int, ...]]) -> None:
    comparison = compare(dead_report(state), dead_report(state))
    assert {site.change for site in comparison.sites} == {"same"}
    assert not comparison.worse


def test_a_trend_has_a_line_for_each_site_and_a_gap_where_it_was_not_measured() -> None:
    steps = [("1", {"a": ()}), ("2", {"a": (1,), "b": (1, 2, 3)}), ("3", {"a": (1, 2, 3)})]
    lined = trend([(name, dead_report(state)) for name, state in steps])
    assert [(line.id, line.dead) for line in lined.lines] == [("a", (0, 1, 3)), ("b", (None, 3, None))]
    assert lined.total.share == (0.0, 4 / 12, 0.5)
    assert lined.to_dict()["sites"][1]["share"] == [None, 0.5, None]
    with pytest.raises(UsageError, match="no checkpoint"):
        trend([])
