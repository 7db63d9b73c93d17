"""Saturated units in every format: shown beside the dead, and nothing more to read where there are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from deadrelu.judge.policy import Policy
from deadrelu.render import github, gitlab, html, junit, markdown, notebook, sarif
from deadrelu.render.terminal import table, units
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report
from tests.conftest import make_report, make_site, make_stats
from tests.judge.reports import saturated_site


@pytest.fixture
def saturated() -> Report:
    """A site of tanh with units at both sides, one with a dead unit too, and a healthy one."""
    return make_report(
        [
            make_stats(make_site("stem.relu", 16), [0.4] * 16),
            saturated_site("body.tanh"),
            saturated_site("head.act", low=5, high=0, dead=2, units=32),
        ],
        policy=Policy(max_dead=0.05, max_saturated=0.17),
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_matches_the_golden_file(saturated: Report, golden: Callable[[str, str], None], width: int) -> None:
    golden(f"saturated-{width}.txt", table.render(saturated, Screen(width=width)))


def test_the_map_of_units_matches_the_golden_file(saturated: Report, golden: Callable[[str, str], None]) -> None:
    drawn = [
        units.render(stats, Screen(width=80, unicode=unicode)) for stats in saturated.sites for unicode in (True, False)
    ]
    golden("saturated-units-80.txt", "\n".join(drawn))


def test_a_report_without_saturated_units_is_drawn_as_before(canonical: Report) -> None:
    for text in (table.render(canonical, Screen(width=200)), markdown.render(canonical), notebook.fragment(canonical)):
        assert "saturated" not in text.lower()
    page = html.render(canonical)
    assert ">saturated<" not in page[: page.index("Reference")]
    assert 'class="s"' not in page


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_totals_are_the_sums_of_the_columns(saturated: Report, width: int) -> None:
    lines = table.render(saturated, Screen(width=width)).splitlines()
    header = next(line for line in lines if " units " in line)
    end = header.index("saturated") + len("saturated")
    column = [line[end - 9 : end].strip() for line in lines[lines.index(header) + 1 :][:5]]
    assert column[:3] == ["0", "3", "5"]
    assert column[4] == "8"


def test_markdown_and_notebook_have_the_column(saturated: Report) -> None:
    rows = [line.split("|") for line in markdown.render(saturated).splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in rows[0]].index("saturated")
    by_site = {cells[2].strip(): cells[place].strip() for cells in rows if "`" in cells[2]}
    assert by_site == {"`body.tanh`": "3", "`head.act`": "5", "`stem.relu`": "0"}
    fragment = notebook.fragment(saturated)
    assert fragment.count("<th") - fragment.count("<thead") == 9 + 3 + 1
    assert re.search(r"<tfoot>.*<td class=\"num\">8</td>", fragment, re.DOTALL)


def test_the_page_marks_each_saturated_unit_with_its_side(saturated: Report) -> None:
    page = html.render(saturated)
    assert len(re.findall(r'<i class="s" title="unit \d+: saturated', page)) == 8
    assert re.findall(r'title="unit (\d+): saturated high', page) == ["2"]
    assert "17% of a site’s units may be saturated" in page
    assert '<i class="s"></i>saturated' in page
    assert "Map of 16 units, 0 dead; 3 saturated: 0–2" in page


def test_the_bar_of_all_units_counts_each_once(saturated: Report) -> None:
    parts = {
        kind: int(number)
        for kind, number in re.findall(r'class="c-(\w+)" style="flex-grow:(\d+)"', html.render(saturated))
    }
    assert parts == {"dead": 2, "saturated": 8, "alive": 54}
    assert sum(parts.values()) == saturated.summary.units


def test_the_formats_for_ci_carry_the_rule(saturated: Report) -> None:
    for render in (github.render, gitlab.render, junit.render, sarif.render):
        assert "2 stuck low and 1 stuck high" in render(saturated)
    assert '"ruleId": "DR007"' in sarif.render(saturated)


def test_a_site_with_saturated_units_is_listed_among_very_many() -> None:
    healthy = [make_stats(make_site(f"block{n}.relu", 4), [0.5] * 4) for n in range(60)]
    report = make_report([*healthy, saturated_site("last.tanh")], policy=Policy(max_saturated=1.0))
    assert "last.tanh" in table.render(report, Screen(width=80))


def test_of_very_many_units_the_rows_with_a_saturated_one_are_drawn() -> None:
    stats = saturated_site(low=1, high=0, units=5000)
    stats = replace(stats, saturated_units=(4321,), firing_rate=(0.5,) * 4321 + (0.0,) + (0.5,) * 678)
    assert "≈" in units.render(stats, Screen(width=80))


def test_a_data_frame_counts_and_marks_them(saturated: Report) -> None:
    pytest.importorskip("pandas")
    assert saturated.to_pandas()["saturated"].tolist() == [0, 3, 5]
    frame = saturated.to_pandas(units=True)
    assert frame.groupby("site", sort=False)["saturated"].sum().tolist() == [0, 3, 5]
    assert frame["min_preactivation"].isna().tolist() == [True] * 16 + [False] * 48


def test_the_bars_of_a_site_stand_for_all_of_its_units(saturated: Report) -> None:
    pictures = re.findall(r'<svg class="histogram wide".*?</svg>', html.render(saturated), re.DOTALL)
    totals = [sum(map(int, re.findall(r"<text[^>]*>(\d+)</text>", picture))) for picture in pictures]
    assert totals == [16, 32]


def test_a_unit_of_neither_side_is_listed_without_one() -> None:
    stats = saturated_site(low=2, high=0)
    stats = replace(stats, max_preactivation=(4.0, *stats.max_preactivation[1:]))
    drawn = units.render(stats, Screen(width=80))
    assert "saturated: 0\nsaturated low: 1\n" in drawn
