"""Sites are matched by id if everything agrees, else by what they kept; different sites never match."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deadrelu.judge.baseline import Entry, compare_to_baseline, gate, match_entries, renew_entries
from deadrelu.judge.baseline_file import BaselineFile
from deadrelu.judge.compare import compare
from deadrelu.judge.matching import Identity, match
from deadrelu.judge.policy import Policy
from deadrelu.judge.trend import trend
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats

marks = st.lists(
    st.builds(
        Identity,
        id=st.sampled_from(["a:relu", "b:relu", ":relu#1", ":relu#2", "act"]),
        alias=st.sampled_from([None, ":relu#1", ":relu#2"]),
        op=st.sampled_from([None, "relu", "relu6"]),
        after=st.sampled_from([None, "a", "b"]),
        units=st.sampled_from([None, 4, 8]),
    ),
    unique_by=lambda mark: mark.id,
)


def site(name: str, units: int, dead: int, *, after: str | None = None, alias: str | None = None) -> object:
    stats = make_stats(make_site(name, units, after=after), [0.0] * dead + [0.5] * (units - dead))
    return replace(stats, site=replace(stats.site, alias=alias))


def report(*sites: object) -> Report:
    return make_report(list(sites))  # type: ignore[arg-type]


@given(marks, marks)
def test_matching_is_one_to_one_and_requires_equal_units_and_activation(
    old: list[Identity], new: list[Identity]
) -> None:
    found = match(old, new)
    assert len(set(found.values())) == len(found)
    for mark in new:
        if mark.id in found:
            other = old[found[mark.id]]
            assert None in (mark.units, other.units) or mark.units == other.units
            assert None in (mark.op, other.op) or mark.op == other.op


@given(marks)
def test_every_site_matches_itself(same: list[Identity]) -> None:
    assert match(same, same) == {mark.id: place for place, mark in enumerate(same)}


def test_a_site_with_a_new_id_is_found_by_its_producer_and_reported_as_moved() -> None:
    before = report(site("m:relu#1", 8, 0, after="stem"), site("m:relu#2", 8, 3, after="conv"))
    after = report(site("m:relu#1", 8, 3, after="conv"))
    known = renew_entries(before, Policy(), None)
    assert compare_to_baseline(after, known).moved == {"m:relu#1": "m:relu#2"}
    assert compare_to_baseline(after, known).gone == ("m:relu#1",)
    held = gate(after, Policy(), known)
    assert held.verdict == "pass"
    assert "3 of 8 units are dead, as many as in the baseline (there named m:relu#2)." in held.findings[0].message
    (change, gone) = compare(before, after).sites
    assert (change.id, change.was, change.change, gone.id) == ("m:relu#1", "m:relu#2", "same", "m:relu#1")
    assert (change.has_moved, gone.has_moved) == (True, False)


def test_a_site_that_is_only_numbered_differently_has_not_moved() -> None:
    before, after = report(site(":relu#1", 8, 3)), report(site("conv1:relu", 8, 3, alias=":relu#1"))
    comparison = compare(before, after)
    (change,) = comparison.sites
    assert (change.id, change.was, change.has_moved) == ("conv1:relu", ":relu#1", False)
    assert comparison.to_dict()["sites"][0]["was"] == ":relu#1"
    assert "was" not in compare(after, after).to_dict()["sites"][0]


def test_an_id_that_means_another_layer_now_is_reported_and_not_compared() -> None:
    known = renew_entries(report(site("act", 32, 0, after="a")), Policy(), None)
    held = gate(report(site("act", 64, 2, after="b")), Policy(max_dead=0.5), known)
    assert held.verdict == "pass"
    message = held.findings[0].message
    assert message.endswith("In the baseline, this id has 32 units: it is another layer, and not compared.")
    assert gate(report(site("act", 64, 2, after="b")), Policy(), known).verdict == "fail"


def test_an_id_that_means_another_activation_now_is_not_compared_either() -> None:
    before = report(site("act", 8, 0, after="a"))
    now = replace(before.sites[0].site, op="relu6")
    after = report(make_stats(now, [0.0] + [0.5] * 7))
    held = gate(after, Policy(max_dead=0.5), renew_entries(before, Policy(), None))
    assert held.findings[0].message.endswith(
        "In the baseline, this id is a relu: it is another activation, and not compared."
    )


def test_a_module_after_another_layer_is_still_that_module() -> None:
    known = renew_entries(report(site("act", 8, 2, after="conv")), Policy(), None)
    after = report(site("act", 8, 2, after="bn"))
    assert (compare_to_baseline(after, known).moved, compare_to_baseline(after, known).gone) == ({}, ())
    assert gate(after, Policy(), known).verdict == "pass"


def test_a_baseline_of_an_earlier_version_is_read_by_the_former_ids() -> None:
    text = (
        '{"deadrelu_baseline": 1, "models": {"m.pt": {":relu#1": {"units": 8, "rules": {"DR001": [0, 1]}},'
        ' ":relu#2": {"units": 4, "rules": {}}}}}'
    )
    known = BaselineFile.from_json(text, "base.json").models["m.pt"]
    now = report(
        site("conv1:relu", 8, 2, after="conv1", alias=":relu#1"),
        site("conv2:relu", 4, 0, after="conv2", alias=":relu#2"),
    )
    assert gate(now, Policy(), known).verdict == "pass"
    changes = compare_to_baseline(now, known)
    assert (changes.renumbered, changes.moved, changes.new, changes.gone) == (("conv1:relu", "conv2:relu"), {}, (), ())
    # What was the second call of four units is not mistaken for the first of eight.
    edited = report(site("conv2:relu", 4, 0, after="conv2", alias=":relu#1"))
    assert match_entries(edited, known).was == {}


def test_an_entry_is_written_with_its_activation_and_producer_and_read_back() -> None:
    entries = renew_entries(report(site("conv1:relu", 4, 1, after="conv1")), Policy(), None)
    assert entries == {"conv1:relu": Entry(units=4, rules={"DR001": (0,)}, op="relu", after="conv1")}
    written = BaselineFile(models={"m": entries}).to_json()
    assert '"conv1:relu": {"units": 4, "op": "relu", "after": "conv1", "rules": {"DR001": [0]}}' in written
    assert BaselineFile.from_json(written, "b").models["m"] == entries


def test_a_trend_follows_a_site_over_a_change_of_its_id() -> None:
    reports = [
        report(site(":relu#1", 4, 1), site("m:relu#2", 8, 1, after="conv")),
        report(site("conv1:relu", 4, 2, alias=":relu#1"), site("m:relu#1", 8, 2, after="conv")),
        report(site("m:relu#1", 8, 3, after="conv"), site("new", 2, 0)),
    ]
    lines = trend([(str(n), each) for n, each in enumerate(reports)]).lines
    assert [(line.id, line.dead) for line in lines] == [
        ("conv1:relu", (1, 2, None)),
        ("m:relu#1", (1, 2, 3)),
        ("new", (None, None, 0)),
    ]
