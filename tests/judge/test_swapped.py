"""A site that was swapped is matched with the ReLU that it was, and the units that still only leak are not cured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.judge.baseline import compare_to_baseline, gate, renew_entries
from deadrelu.judge.compare import compare
from deadrelu.judge.matching import Identity, match
from deadrelu.judge.policy import Policy
from deadrelu.judge.trend import trend
from deadrelu.render.conclusion import conclusion, next_step
from deadrelu.render.terminal import diff as diff_rendering
from deadrelu.render.terminal import trend as trend_rendering
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report, SiteStats
from tests.conftest import make_report, make_site, make_stats


def dead(name: str, units: int, *, after: str | None = "fc") -> SiteStats:
    """A ReLU of four units, the first so many of them dead."""
    return make_stats(make_site(name, 4, after=after), [0.0] * units + [0.5] * (4 - units))


def leaking(name: str, units: int, op: str = "leaky_relu", *, slope: float = 0.01) -> SiteStats:
    """A swapped site of four units, the first so many of them never above zero: saturated if the slope is small."""
    flat = tuple(range(units)) if slope <= 0.01 else ()
    stats = make_stats(make_site(name, 4, op=op, after="fc"), [0.0 if flat else 1.0] * units + [0.5] * (4 - units))
    maxima = (-1.0,) * units + (2.0,) * (4 - units)
    return replace(stats, dead_units=(), saturated_units=flat, max_preactivation=maxima, min_preactivation=(-3.0,) * 4)


BEFORE = make_report([dead("a", 3), dead("b", 2), dead("c:relu#1", 1)])
PATCHED = make_report([leaking("a", 2), dead("b", 2), leaking("c:elu#1", 0, "elu")])
TUNED = make_report([leaking("a", 1), dead("b", 2), leaking("c:elu#1", 0, "elu")])


def said(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def relu(name: str, *, after: str | None = None, module: str | None = None, op: str = "relu") -> Identity:
    return Identity(id=name, op=op, after=after, units=4, module=module)


def swapped(name: str, op: str = "leaky_relu", *, after: str | None = None, units: int | None = 4) -> Identity:
    return Identity(id=name, op=op, after=after, units=units, module=name.partition(":")[0].partition("#")[0])


@pytest.mark.parametrize(
    ("site", "became", "found"),
    [
        (relu("relu"), swapped("relu"), True),
        (relu("relu#2"), swapped("relu#2"), True),
        (relu("relu"), swapped("relu", "hardswish"), True),
        (swapped("relu"), relu("relu"), True),
        (relu("relu"), swapped("relu", units=None), True),
        (relu("relu"), swapped("relu", units=5), False),
        (relu("relu"), swapped("act"), False),
        (relu("relu"), swapped("relu", "sigmoid"), False),
        (relu("act", op="sigmoid"), swapped("act", "tanh"), False),
        (relu("net:relu#1"), swapped("net:leaky_relu#1"), True),
        (relu("net:relu#3", after="fc", module="net"), swapped("net:leaky_relu#1", after="fc"), True),
        (relu("net:relu#1", after="fc", module="net"), swapped("net:leaky_relu#1", after="conv"), False),
        (relu("net:relu#1", after="fc", module="net"), swapped("other:leaky_relu#1", after="fc"), False),
        (relu("layer:relu#1", after="fc", module="layer"), swapped("layer.activation", "gelu", after="fc"), True),
        (relu("layer:relu#1", module="layer"), swapped("layer.activation"), False),
        (relu("layer:relu#1", after="fc"), swapped("layer.activation", after="fc"), False),
    ],
)
def test_a_swapped_site_is_matched_by_id_module_and_layer(site: Identity, became: Identity, found: bool) -> None:
    assert match([site], [became]) == ({became.id: 0} if found else {})


def test_each_swapped_call_matches_one_site_in_the_order_of_calls() -> None:
    sizes = (4, 8, 4)
    old = [replace(relu(f"n:relu#{call}"), units=size) for call, size in enumerate(sizes, 1)]
    new = [swapped(f"n:elu#{call}", "elu", units=size) for call, size in enumerate(sizes, 1)]
    assert match(old, new) == {"n:elu#1": 0, "n:elu#2": 1, "n:elu#3": 2}


def test_a_site_that_is_matched_leaves_the_other_calls_to_the_next() -> None:
    old = [relu(f"layer:relu#{call}", after="fc", module="layer") for call in (1, 2)]
    new = [swapped("layer:elu#1", "elu", after="fc"), swapped("layer.activation", after="fc")]
    assert match(old, new) == {"layer:elu#1": 0, "layer.activation": 1}


def test_a_relu_that_was_kept_is_never_matched_with_one_that_was_swapped() -> None:
    old = [relu("a", after="fc"), relu("b", after="fc")]
    assert match(old, [swapped("a", after="fc"), relu("b", after="fc")]) == {"a": 0, "b": 1}


def test_a_unit_only_leaks_if_nothing_was_above_zero_whatever_the_slope() -> None:
    assert leaking("a", 2).leaking_units == (0, 1)
    assert leaking("a", 2, slope=0.2).leaking_units == (0, 1)
    assert leaking("a", 2, slope=0.2).saturated_units == ()
    assert leaking("a", 2, "gelu").leaking_units == ()
    assert leaking("a", 2, "gelu").stuck_units == (0, 1)
    assert dead("a", 2).stuck_units == ()
    edge = replace(leaking("a", 2, "prelu"), max_preactivation=(0.0, 1e-9, -2.0, -1.0), dead_units=(2,))
    assert replace(edge, nonfinite_units=(3,)).leaking_units == (0,)


def test_without_maxima_the_units_that_only_leak_are_the_saturated_ones() -> None:
    assert replace(leaking("a", 2), max_preactivation=(None,) * 4).leaking_units == (0, 1)
    assert replace(leaking("a", 2, slope=0.2), max_preactivation=(None,) * 4).leaking_units == ()


def test_a_scan_of_a_patched_model_passes_and_says_how_many_units_only_leak() -> None:
    for slope in (0.01, 0.2):
        report = make_report([leaking("a", 2, slope=slope), leaking("b", 1, slope=slope)], policy=Policy(max_dead=0.05))
        assert report.verdict == "pass"
        assert "3 of 8 units (38%) only ever leak: no gradient but that of the leak passes" in conclusion(report)
        assert "saturated" not in conclusion(report)
        assert next_step(report).purpose == "Fine-tune the model, and scan what comes of it"
    one = make_report([leaking("a", 1), leaking("b", 1, "gelu")])
    assert "1 of 8 units (12%) only ever leaks" in conclusion(one)
    assert "1 of 8 units (12%) is saturated" in conclusion(one)


def test_the_finding_of_a_leak_says_to_fine_tune_and_not_to_scale_the_inputs() -> None:
    leaks, tail = make_report([leaking("a", 2), leaking("b", 2, "elu")]).findings
    assert leaks.message == "2 of 4 units are saturated (50%), and only ever leak, on 1,797 samples."
    assert leaks.suggestion.startswith("Fine-tune the model, and scan again")
    assert "all" not in leaks.message
    assert "both stuck low" in tail.message
    assert tail.suggestion.startswith("Check that the inputs")


def test_only_a_straight_activation_that_always_fires_does_nothing() -> None:
    def on(op: str) -> list[str]:
        report = make_report([make_stats(make_site("a", 4, op=op), [1.0] * 4)])
        return [finding.rule for finding in report.findings]

    assert on("relu") == on("hardsigmoid") == ["DR005"]
    assert on("hardswish") == on("sigmoid") == on("leaky_relu") == []


def test_a_comparison_names_swapped_sites_and_what_became_of_their_dead_units() -> None:
    comparison = compare(BEFORE, PATCHED)
    assert [(site.id, site.was, site.change, site.swapped_for) for site in comparison.sites] == [
        ("a", None, "swapped", "leaky_relu"),
        ("b", None, "same", None),
        ("c:elu#1", "c:relu#1", "swapped", "elu"),
    ]
    assert [site.still_stuck for site in comparison.sites] == [(0, 1), (), ()]
    assert [site.revived for site in comparison.sites] == [(2,), (), (0,)]
    assert comparison.to_dict()["sites"][0]["still_stuck"] == [0, 1]
    text = diff_rendering.render(comparison, Screen(width=120))
    assert "a: swapped for leaky_relu; 3 of 4 units were dead before, and 2 of them still only leak" in text
    assert "c:elu#1: swapped for elu; 1 of 4 units was dead before\n" in text
    assert " SWAPPED " in text
    assert "NO WORSE" not in text
    assert "Of 4 dead units at swapped sites, 2 are still stuck: a swap alone is not a cure" in said(text)
    (total,) = [line for line in text.splitlines() if "1 other site" in line]
    assert "2    2       0  50% → 50%" in total, "the dead units of what was swapped are in no total"


def test_a_comparison_that_is_worse_elsewhere_or_at_the_swapped_site_says_that_first() -> None:
    worse = make_report([leaking("a", 2), dead("b", 3)])
    assert " WORSE " in diff_rendering.render(compare(BEFORE, worse))
    died = replace(leaking("a", 0, "prelu"), dead_units=(0, 1, 2, 3))
    comparison = compare(BEFORE, make_report([died, dead("b", 2)]))
    assert [(site.change, site.swapped_for) for site in comparison.sites[:1]] == [("worse", "prelu")]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (1, leaking("a", 1), "1 of 4 units was dead before, and it still only leaks"),
        (3, leaking("a", 3), "3 of 4 units were dead before, and all of them still only leak"),
        (3, leaking("a", 1), "3 of 4 units were dead before, and 1 of them still only leaks"),
        (2, leaking("a", 2, "gelu"), "2 of 4 units were dead before, and all of them are still saturated"),
        (0, leaking("a", 2), "no unit was dead before"),
    ],
)
def test_each_swapped_site_has_a_sentence(old: int, new: SiteStats, says: str) -> None:
    text = diff_rendering.render(compare(make_report([dead("a", old)]), make_report([new])), Screen(width=120))
    assert f"a: swapped for {new.site.op}; {says}\n" in text


def test_a_trend_has_no_total_where_a_site_was_swapped_and_counts_what_still_leaks() -> None:
    course = trend([("1.pt", BEFORE), ("2.pt", BEFORE), ("3.pt", PATCHED), ("4.pt", TUNED)])
    assert {line.id: line.swapped for line in course.lines} == {
        "a": (None, None, "leaky_relu", "leaky_relu"),
        "b": (None,) * 4,
        "c:elu#1": (None, None, "elu", "elu"),
    }
    assert [line.still_stuck for line in course.lines] == [(None, None, 2, 1), (None,) * 4, (None, None, 0, 0)]
    assert course.total.share == (0.5, 0.5, None, None)
    assert course.total.still_stuck == (None, None, 2, 1)
    text = said(trend_rendering.render(course))
    assert (
        "1 site was swapped for leaky_relu (a): 1 unit that was dead there still only leaks in 4.pt,"
        " and a swap alone is not a cure." in text
    )
    assert "1 site was swapped for elu (c:elu#1)." in text
    assert "50% of the units were dead at first, 50% in 2.pt." in text
    assert course.to_dict()["sites"][0]["swapped"] == [None, None, "leaky_relu", "leaky_relu"]
    assert course.to_dict()["sites"][0]["still_stuck"] == [None, None, 2, 1]


def test_a_trend_of_patched_checkpoints_has_a_total() -> None:
    course = trend([("1.pt", make_report([leaking("a", 2)])), ("2.pt", make_report([leaking("a", 1)]))])
    assert course.total.share == (0.0, 0.0)
    assert "0% of the units were dead at first, 0% at the end" in trend_rendering.render(course)


def test_a_baseline_from_before_the_swap_is_compared_with_the_swapped_sites() -> None:
    known = renew_entries(BEFORE, Policy(), None)
    changes = compare_to_baseline(PATCHED, known)
    assert changes.swapped == {"a": "leaky_relu", "c:relu#1": "elu"}
    assert (changes.gone, changes.worse, changes.new) == ((), (), ())
    assert changes.better == ("a", "c:elu#1")
    assert gate(PATCHED, Policy(), known).verdict == "pass"
    assert compare_to_baseline(make_report([dead("b", 2)]), known).gone == ("a", "c:relu#1")


@pytest.mark.parametrize("sites", [(), (dead("b", 2),)])
def test_a_report_that_lists_leaky_calls_apart_is_read_without_them(sites: tuple[SiteStats, ...]) -> None:
    """Versions before this one wrote the key, and let a model of nothing else pass."""
    call = {"id": "act", "op": "gelu", "module": "act", "call": 1, "calls": 1, "after": None, "units": None}
    old = make_report(sites).to_dict() | {"leaky": [call]}
    old["summary"] |= {"verdict": "pass"}
    read = Report.from_dict(old)
    assert [stats.site.id for stats in read.sites] == [stats.site.id for stats in sites]
    assert read.verdict == ("pass" if sites else "nothing measured")
    assert "leaky" not in read.to_dict()
    assert Report.from_dict(read.to_dict()) == read
