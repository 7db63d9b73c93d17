"""The baseline: known dead units pass, more of them fail and are listed, and it never allows more by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import FileError, UsageError
from deadrelu.judge.baseline import Entries, Entry, allowance, compare_to_baseline, gate, parse_tolerance, renew_entries
from deadrelu.judge.baseline_file import BaselineFile
from deadrelu.judge.policy import Policy
from deadrelu.report import Report, Skipped
from tests.conftest import make_report, make_site, make_stats
from tests.judge.reports import SITES, UNITS, dead_report

Dead = dict[str, tuple[int, ...]]
units = st.sets(st.integers(0, UNITS - 1)).map(lambda found: tuple(sorted(found)))
states = st.dictionaries(st.sampled_from(SITES), units, min_size=1)
policies = st.builds(Policy, max_dead=st.none() | st.sampled_from([0.0, 0.2, 0.5, 1.0]))


def known_of(dead: Dead) -> Entries:
    """The baseline of a model in this state."""
    return renew_entries(dead_report(dead), Policy(), None)


def gated(dead: Dead, known: Entries, policy: Policy | None = None, tolerance: int | float = 0) -> Report:
    """A model in this state, held against a baseline."""
    policy = policy or Policy()
    return gate(dead_report(dead, policy=policy), policy, known, tolerance)


def errors(report: Report) -> list[tuple[str, str | None, tuple[int, ...]]]:
    """Rule, site and units of each error."""
    return [(f.rule, f.site, f.units) for f in report.findings if f.severity == "error"]


def test_known_dead_units_pass_and_are_a_note() -> None:
    report = gated({"a": (1, 5), "b": ()}, known_of({"a": (1, 5), "b": ()}))
    assert report.verdict == "pass"
    assert [(f.rule, f.severity, f.units) for f in report.findings] == [("DR001", "note", (1, 5))]
    assert "2 of 6 units are dead, as many as in the baseline." in report.findings[0].message


def test_two_more_dead_units_fail_and_are_listed() -> None:
    report = gated({"a": (0, 1, 4, 5)}, known_of({"a": (1, 5)}))
    assert errors(report) == [("DR001", "a", (0, 4))]
    assert "4 of 6 units are dead, 2 more than in the baseline; these are newly dead." in report.findings[0].message
    assert [(f.severity, f.units) for f in report.findings[1:]] == [("note", (1, 5))]


def test_a_site_that_is_now_wholly_dead_fails_as_such() -> None:
    assert errors(gated({"a": tuple(range(6))}, known_of({"a": (1,)}))) == [("DR002", "a", (0, 2, 3, 4, 5))]
    assert gated({"a": tuple(range(6))}, known_of({"a": tuple(range(6))})).verdict == "pass"


def test_fewer_dead_units_pass_as_better() -> None:
    known = known_of({"a": (1, 5), "b": (2,)})
    assert gated({"a": (1,), "b": (2,)}, known).verdict == "pass"
    assert compare_to_baseline(dead_report({"a": (1,), "b": (2,)}), known).better == ("a",)


def test_as_many_other_dead_units_pass_and_are_listed() -> None:
    report = gated({"a": (2, 3)}, known_of({"a": (1, 5)}))
    assert (report.verdict, report.findings[0].severity) == ("pass", "note")
    assert "as many as in the baseline; newly dead: 2–3." in report.findings[0].message


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [(0, "fail"), (1, "fail"), (2, "pass"), (0.34, "pass"), (0.3, "fail")]
)
def test_the_tolerance_is_a_number_of_units_or_a_share_of_them(tolerance: int | float, verdict: str) -> None:
    assert gated({"a": (0, 1, 2)}, known_of({"a": (0,)}), tolerance=tolerance).verdict == verdict


def test_tolerances_are_read_and_rounded_down() -> None:
    assert (parse_tolerance("2"), parse_tolerance("1%"), parse_tolerance("0.5")) == (2, 0.01, 0.5)
    assert (allowance(2, 10), allowance(0.01, 100), allowance(0.07, 100), allowance(0.019, 100)) == (2, 1, 7, 1)
    for text in ("-1", "lots", "200%", "nan"):
        with pytest.raises(UsageError, match="--tolerance"):
            parse_tolerance(text)


def test_the_baseline_replaces_max_dead_only_at_the_sites_in_it() -> None:
    known = known_of({"a": (0, 1, 2)})
    assert gated({"a": (0, 1, 2)}, known, Policy(max_dead=0.0)).verdict == "pass"
    assert gated({"a": (0, 1, 2, 3)}, known, Policy(max_dead=1.0)).verdict == "fail"
    assert errors(gated({"a": (), "new": (1,)}, known)) == [("DR001", "new", (1,))]
    assert gated({"a": (), "new": (1,)}, known, Policy(max_dead=0.5)).verdict == "pass"
    assert gated({"a": (0, 1, 2)}, known, Policy(max_dead_total=0.1)).verdict == "fail"


def test_a_site_skipped_in_the_baseline_is_a_note_even_if_strict() -> None:
    policy = Policy(strict=True)
    aux = (Skipped(id="aux", op="relu", reason="never called"),)
    report = make_report(list(dead_report({"a": ()}).sites), policy=policy, skipped=aux)
    known = renew_entries(report, policy, None)
    assert (report.verdict, gate(report, policy, known).verdict) == ("fail", "pass")
    with pytest.raises(UsageError, match="aux is skipped now"):
        renew_entries(report, policy, known_of({"a": ()}))


def test_gone_sites_are_reported_and_left_out_of_the_new_baseline() -> None:
    known = known_of({"a": (1,), "old": (2,)})
    assert compare_to_baseline(dead_report({"a": (1,)}), known).gone == ("old",)
    assert list(renew_entries(dead_report({"a": (1,)}), Policy(), known)) == ["a"]


def test_a_baseline_that_would_allow_more_is_refused_unless_forced() -> None:
    known, worse = known_of({"a": (1,)}), dead_report({"a": (1, 2, 3)})
    with pytest.raises(UsageError, match=r"a has 3 dead units, not 1 \(newly dead: 2–3\)") as refused:
        renew_entries(worse, Policy(), known)
    assert "--force" in refused.value.hint
    assert renew_entries(worse, Policy(), known, force=True)["a"].dead == (1, 2, 3)
    with pytest.raises(UsageError, match="b is new and has 1 dead unit"):
        renew_entries(dead_report({"a": (1,), "b": (4,)}), Policy(), known)


def test_nan_is_never_accepted_nor_better() -> None:
    sick = make_report([make_stats(make_site("a", 6), [0.5] * 6, nonfinite=(1,))])
    known = known_of({"a": (1, 5)})
    assert compare_to_baseline(sick, known).better == ()
    assert gate(sick, Policy(), known).verdict == "fail"
    with pytest.raises(UsageError, match="a met NaN or infinity"):
        renew_entries(sick, Policy(), known, force=True)


@given(states, states, policies)
def test_updating_without_force_never_allows_more(before: Dead, after: Dead, policy: Policy) -> None:
    known = known_of(before)
    try:
        now = renew_entries(dead_report(after), policy, known)
    except UsageError:
        assert any(len(after[s]) > len(before.get(s, ())) for s in after)
        return
    for site, entry in now.items():
        allowed = len(before[site]) if site in before else UNITS * (policy.max_dead or 0)
        assert len(entry.dead) <= allowed


@given(states, states, policies)
def test_a_baseline_can_be_updated_exactly_if_the_report_passes_it(before: Dead, after: Dead, policy: Policy) -> None:
    known, report = known_of(before), dead_report(after, policy=policy)
    dead_whole = any(len(gone) == UNITS and site not in before for site, gone in after.items())
    try:
        now = renew_entries(report, policy, known)
    except UsageError:
        assert gate(report, policy, known).verdict == "fail"
        return
    assert gate(report, policy, known).verdict == ("fail" if dead_whole else "pass")
    assert gate(report, policy, now).verdict == "pass"


@given(states, states, st.integers(0, UNITS))
def test_more_tolerance_never_turns_a_pass_into_a_fail(before: Dead, after: Dead, tolerance: int) -> None:
    known, policy = known_of(before), Policy(max_dead=1.0, ignore=("DR002",))
    tight = gate(dead_report(after, policy=policy), policy, known, tolerance)
    wide = gate(dead_report(after, policy=policy), policy, known, tolerance + 1)
    assert (tight.verdict, wide.verdict) != ("pass", "fail")


@given(states, states)
def test_gating_keeps_the_rule_and_the_site_of_every_finding(before: Dead, after: Dead) -> None:
    known = known_of(before)
    once = gated(after, known)
    held = {(f.rule, f.site) for f in once.findings}
    assert held == {(f.rule, f.site) for f in dead_report(after).findings}


@st.composite
def an_entry(draw: st.DrawFn) -> Entry:
    """What may be known of a site: no unit beyond those that it has, and none of a site that was skipped."""
    size = draw(st.none() | st.integers(1, 99))
    numbers = st.just(()) if size is None else st.sets(st.integers(0, size - 1)).map(lambda s: tuple(sorted(s)))
    return Entry(units=size, rules=draw(st.dictionaries(st.sampled_from(["DR001", "DR008"]), numbers)))


entries = st.dictionaries(st.text(min_size=1), an_entry(), max_size=3)


@given(st.dictionaries(st.text(), entries, max_size=3))
def test_a_baseline_file_is_written_and_read_back(models: dict[str, Entries]) -> None:
    ledger = BaselineFile(models=models)
    assert BaselineFile.from_json(ledger.to_json(), "b.json") == ledger


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"deadrelu_baseline": 2, "models": {}}', '{"deadrelu_baseline": 1, "models": {"a": {"s": {}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": ["x"]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": [true]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": [3]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": [-1]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": [1, 1]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"DR001": "12"}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 3, "rules": {"dead": [1]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": null, "rules": {"DR001": [1]}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 0, "rules": {}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": true, "rules": {}}}}}',
     '{"deadrelu_baseline": 1, "models": {"a": {"s": {"units": 1e400, "rules": {}}}}}',
     '{"deadrelu_baseline": 1, "models": []}', '{"deadrelu_baseline": 1, "models": {"a": 5}}',
     "[" * 100_000, '{"a":' * 100_000],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_a_broken_baseline_file_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(FileError, match=r"base\.json is not a deadrelu baseline"):
        BaselineFile.from_json(text, "base.json")


def test_a_site_that_occurs_twice_is_refused_and_named() -> None:
    site = '"s": {"units": 3, "rules": {}}'
    with pytest.raises(FileError, match="'s' occurs twice"):
        BaselineFile.from_json(f'{{"deadrelu_baseline": 1, "models": {{"a": {{{site}, {site}}}}}}}', "base.json")


def test_a_baseline_file_is_utf8_with_or_without_a_byte_order_mark() -> None:
    text = BaselineFile(models={"é": {"s": Entry(units=3, rules={"DR001": (1,)})}}).to_json()
    assert BaselineFile.from_json(text.encode(), "b") == BaselineFile.from_json(text, "b")
    assert BaselineFile.from_json(text.encode("utf-8-sig"), "b") == BaselineFile.from_json(text, "b")
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(FileError, match="b is not a deadrelu baseline"):
            BaselineFile.from_json(text.encode(encoding), "b")
