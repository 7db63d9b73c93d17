"""Comparison, trend and rules at a terminal: changes are named, and names from a model are escaped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from deadrelu.judge.compare import compare
from deadrelu.judge.rules import RULES
from deadrelu.judge.trend import trend
from deadrelu.render.terminal import diff as diff_rendering
from deadrelu.render.terminal import rules as rules_rendering
from deadrelu.render.terminal import trend as trend_rendering
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats
from tests.judge.reports import dead_report

OLD = {"stem.[red]relu": (1,), "layer1.0.relu#1": (1, 2, 4), "mixed:relu#1": (3,), "same": (4,), "gone": ()}
NEW = {"new": (5,), "stem.[red]relu": (1, 2, 3), "layer1.0.relu#1": (2,), "mixed:relu#1": (0,), "same": (4,)}
Golden = Callable[[str, str], None]


def with_nan(name: str) -> Report:
    """A report of one site of which one unit met NaN."""
    return make_report([make_stats(make_site(name, 6), [0.5] * 6, nonfinite=(2,))])


def test_a_comparison_is_drawn(golden: Golden) -> None:
    comparison = compare(dead_report(OLD), dead_report(NEW))
    golden("diff.txt", diff_rendering.render(comparison, Screen(width=80)))
    golden("diff_ascii.txt", diff_rendering.render(comparison, Screen(width=60, unicode=False), full=True))


def test_nan_is_neither_better_nor_revived() -> None:
    comparison = compare(dead_report({"a": (1, 2)}), with_nan("a"))
    (site,) = comparison.sites
    assert (site.change, site.revived) == ("non-finite", (1,))
    text = diff_rendering.render(comparison)
    assert " WORSE " in text
    assert "non-finite" in text


def test_a_trend_is_drawn(golden: Golden) -> None:
    states = [{"stem": (), "head": (1,)}, {"stem": (1,), "head": ()}, {"stem": (1, 2, 3)}, {"stem": (0, 1, 2, 3, 4, 5)}]
    lined = trend([(f"run/epoch_{n}.pt", dead_report(state)) for n, state in enumerate(states)])
    golden("trend.txt", trend_rendering.render(lined, Screen(width=80)))
    golden("trend_ascii.txt", trend_rendering.render(lined, Screen(width=60, unicode=False)))


def test_a_trend_marks_nan_and_counts_nothing_there() -> None:
    lined = trend([("1.pt", dead_report({"a": (1,)})), ("2.pt", with_nan("a"))])
    assert (lined.lines[0].dead, lined.lines[0].nonfinite) == ((1, None), (False, True))
    text = trend_rendering.render(lined)
    assert "█?" in text
    assert "2.pt met NaN or infinity" in text


@pytest.mark.parametrize("points", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_any_number_of_checkpoints_fits_the_width(points: int, width: int) -> None:
    lined = trend([(f"e{n}.pt", dead_report({"layer.relu": tuple(range(n % 6))})) for n in range(points)])
    text = trend_rendering.render(lined, Screen(width=width))
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_comparison_fits_the_width(width: int) -> None:
    text = diff_rendering.render(compare(dead_report(OLD), dead_report(NEW)), Screen(width=width), full=True)
    assert max(map(len, text.splitlines())) <= width


def test_names_from_a_model_can_neither_colour_nor_break_the_text() -> None:
    evil = "a\n::error::x\x1b[31m[bold]"
    comparison = compare(dead_report({evil: (1,)}), dead_report({evil: (1, 2)}))
    named = replace(comparison, new=replace(comparison.new, model=replace(comparison.new.model, path=evil)))
    lined = trend([(evil, dead_report({evil: (1,)}))])
    for text in (diff_rendering.render(named, Screen(width=200)), trend_rendering.render(lined, Screen(width=200))):
        assert "\x1b" not in text
        assert "\n::error" not in text
        assert "[bold]" in text


def test_every_rule_is_explained_in_full() -> None:
    for rule in RULES.values():
        text = " ".join(rules_rendering.render([rule], Screen(width=300)).split())
        for part in (rule.code, rule.name, rule.summary, rule.why, rule.fix):
            assert part in text
    listed = rules_rendering.render(list(RULES.values()), Screen(width=200))
    assert all(rule.code in listed and rule.summary in listed for rule in RULES.values())
