"""Diff, trend, merge and baseline report a swapped site as swapped, and never count it as cured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.errors import FileError
from deadrelu.judge.baseline import compare_to_baseline, renew_entries
from deadrelu.judge.compare import compare
from deadrelu.judge.judgement import judge
from deadrelu.judge.merge import merge
from deadrelu.judge.policy import Policy
from deadrelu.judge.swapped import LostSite, match_leaky
from deadrelu.judge.trend import trend
from deadrelu.render import html, junit, markdown
from deadrelu.render.terminal import diff as diff_rendering
from deadrelu.render.terminal import table
from deadrelu.render.terminal import trend as trend_rendering
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Leaky, Report
from tests.conftest import make_report, make_site, make_stats


def leaky(name: str, op: str = "leaky_relu", units: int | None = 4, after: str | None = None) -> Leaky:
    module, _, call = name.partition("#")
    number = int(call) if call.isdecimal() else 1
    return Leaky(id=name, op=op, module=module.partition(":")[0], call=number, calls=1, after=after, units=units)


def report(sites: dict[str, int], *leaks: Leaky) -> Report:
    """A report of sites of four units, so many of them dead, and of leaky calls."""
    made = [
        make_stats(make_site(name, 4, after="fc"), [0.0] * dead + [0.5] * (4 - dead)) for name, dead in sites.items()
    ]
    return judge(replace(make_report(made), leaky=leaks), Policy())


BEFORE = report({"a": 3, "b": 2, "c:relu#1": 1})
PARTLY = report({"b": 2}, leaky("a"), leaky("c:elu#1", "elu", after="fc"))
WHOLLY = report({}, leaky("a"), leaky("b", "gelu"), leaky("c:elu#1", "elu"))


@pytest.mark.parametrize(
    ("site", "became", "found"),
    [
        (LostSite(id="relu", units=4), leaky("relu"), True),
        (LostSite(id="relu#2", units=4), leaky("relu#2"), True),
        (LostSite(id="relu", units=4), leaky("relu", units=None), True),
        (LostSite(id="relu", units=4), leaky("relu", units=5), False),
        (LostSite(id="relu", units=4), leaky("act"), False),
        (LostSite(id="net:relu#1", units=4), leaky("net:leaky_relu#1"), True),
        (LostSite(id="net:relu#3", units=4, after="fc", module="net"), leaky("net:leaky_relu#1", after="fc"), True),
        (LostSite(id="net:relu#1", units=4, after="fc", module="net"), leaky("net:leaky_relu#1", after="conv"), False),
        (LostSite(id="net:relu#1", units=4, after="fc", module="net"), leaky("other:leaky_relu#1", after="fc"), False),
        (LostSite(id="layer:relu#1", units=4, after="fc", module="layer"), leaky("layer.activation", after="fc"), True),
        (
            LostSite(id="layer:relu#1", units=4, after=None, module="layer"),
            leaky("layer.activation", after=None),
            False,
        ),
    ],
)
def test_a_leaky_call_is_matched_by_id_module_and_layer(site: LostSite, became: Leaky, found: bool) -> None:
    assert match_leaky([site], [became]) == ({site.id: became} if found else {})


def test_each_leaky_call_matches_one_site_in_the_order_of_calls() -> None:
    gone = [LostSite(id="n:relu#1", units=4), LostSite(id="n:relu#2", units=8), LostSite(id="n:relu#3", units=4)]
    leaks = [leaky("n:elu#1", units=4), leaky("n:elu#2", units=8), leaky("n:elu#3", units=4)]
    assert {name: each.id for name, each in match_leaky(gone, leaks).items()} == {
        "n:relu#1": "n:elu#1",
        "n:relu#2": "n:elu#2",
        "n:relu#3": "n:elu#3",
    }


def test_a_site_that_is_matched_leaves_the_other_calls_to_the_next() -> None:
    gone = [LostSite(id=f"layer:relu#{call}", units=4, after="fc", module="layer") for call in (1, 2)]
    leaks = [leaky("layer:elu#1", after="fc"), leaky("layer.activation", after="fc")]
    found = match_leaky(gone, leaks)
    assert {name: each.id for name, each in found.items()} == {
        "layer:relu#1": "layer:elu#1",
        "layer:relu#2": "layer.activation",
    }


def test_a_comparison_names_swapped_sites_and_does_not_count_them_as_cured() -> None:
    comparison = compare(BEFORE, PARTLY)
    assert {site.id: (site.change, site.swapped_for) for site in comparison.sites} == {
        "a": ("swapped", "leaky_relu"),
        "b": ("same", None),
        "c:relu#1": ("swapped", "elu"),
    }
    text = diff_rendering.render(comparison, Screen(width=120))
    assert "a: swapped for leaky_relu; 3 of 4 units were dead before, and its units are not measured now" in text
    assert "c:relu#1: swapped for elu; 1 of 4 units was dead before" in text
    assert "NO WORSE" not in text
    assert " SWAPPED " in text
    (total,) = [line for line in text.splitlines() if "1 other site" in line]
    assert "2    2       0  50% → 50%" in total, "the dead units of what was swapped are in no total"
    assert [site["swapped_for"] for site in comparison.to_dict()["sites"]][1:] == [
        "leaky_relu",
        "elu",
    ]


def test_a_comparison_that_is_worse_elsewhere_says_that_first() -> None:
    assert " WORSE " in diff_rendering.render(compare(BEFORE, report({"b": 3}, leaky("a"))))


def test_a_comparison_with_nothing_left_to_measure_has_no_total() -> None:
    text = " ".join(diff_rendering.render(compare(BEFORE, WHOLLY)).split())
    assert "6 units were dead at the swapped sites, which are not measured now" in text
    assert "other site" not in text
    assert "3 leaky sites not measured" in text


def test_a_trend_has_no_total_where_a_site_was_swapped() -> None:
    course = trend([("1.pt", BEFORE), ("2.pt", BEFORE), ("3.pt", PARTLY)])
    assert {line.id: line.swapped for line in course.lines} == {
        "a": (None, None, "leaky_relu"),
        "b": (None, None, None),
        "c:relu#1": (None, None, "elu"),
    }
    assert course.total.share == (0.5, 0.5, None)
    text = " ".join(trend_rendering.render(course).split())
    assert "1 site was swapped for leaky_relu (a): not measured where leaky" in text
    assert "50% of the units were dead at first, 50% in 2.pt." in text
    assert course.to_dict()["sites"][0]["swapped"] == [None, None, "leaky_relu"]


def test_a_trend_of_leaky_checkpoints_says_that_nothing_can_die() -> None:
    assert "Nothing can die here" in trend_rendering.render(trend([("1.pt", WHOLLY), ("2.pt", WHOLLY)]))


def test_an_older_baseline_reports_swapped_sites_and_not_gone_ones() -> None:
    known = renew_entries(BEFORE, Policy(), None)
    changes = compare_to_baseline(PARTLY, known)
    assert changes.swapped == {"a": "leaky_relu", "c:relu#1": "elu"}
    assert changes.gone == changes.worse == ()
    assert compare_to_baseline(report({"b": 2}), known).gone == ("a", "c:relu#1")


def test_merged_reports_list_each_leaky_call_once() -> None:
    assert merge([PARTLY, PARTLY]).leaky == PARTLY.leaky
    other = replace(PARTLY, leaky=(leaky("z", "gelu"), *PARTLY.leaky))
    assert merge([PARTLY, other]).leaky == merge([other, PARTLY]).leaky
    assert {each.id for each in merge([PARTLY, other]).leaky} == {"a", "c:elu#1", "z"}


def test_a_report_that_lists_a_leaky_call_twice_or_passes_with_a_skipped_site_is_broken() -> None:
    assert Report.from_json(PARTLY.to_json()) == PARTLY
    assert Report.from_json(WHOLLY.to_json()) == WHOLLY
    for change in ({"leaky": [PARTLY.to_dict()["leaky"][0]] * 2}, {"leaky": []}):
        with pytest.raises(FileError):
            Report.from_dict({**WHOLLY.to_dict(), **change})
    assert "leaky" not in BEFORE.to_dict(), "a report without any is written as before"


def test_every_format_lists_leaky_calls_without_a_warning() -> None:
    many = report({"b": 0}, *(leaky(f"m{number}") for number in range(12)))
    for text in (table.render(many), markdown.render(many), html.render(many)):
        plain = " ".join(text.split())
        assert "Not measured: leaky activations, whose units cannot die" in plain
        assert "leaky_relu" in plain
        assert "m7" in plain
        assert "m8" not in plain
        assert "and 4 more" in plain
    assert "m11" in table.render(many, full=True)
    assert "12 leaky sites are not measured" in " ".join(table.render(many).split())
    assert 'tests="1"' in junit.render(WHOLLY)
    assert 'failures="0" errors="0" skipped="0"' in junit.render(WHOLLY)
    assert "Nothing can die here: all 3 activation sites are leaky (leaky_relu, gelu, elu)" in " ".join(
        table.render(WHOLLY).split()
    )
