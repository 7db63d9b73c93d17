"""The map of a site shows each unit once, in its place."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from deadrelu.render.terminal import units
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report
from tests.conftest import make_site, make_stats


def cells(text: str) -> str:
    """The cells of a map, read off its rows: a label, then groups of up to ten."""
    rows = text.split("\n\n")[1].splitlines()[1:]
    return "".join("".join(row.split()[1:]) for row in rows if re.match(r" *\d", row))


def test_the_maps_match_the_golden_files(canonical: Report, golden: Callable[[str, str], None]) -> None:
    golden("units-80.txt", "\n".join(units.render(stats) for stats in canonical.sites))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("count", [1, 9, 10, 11, 64, 257])
def test_each_unit_has_the_cell_of_its_rate(count: int, width: int) -> None:
    rates = [unit % 9 / 8 for unit in range(count)]
    text = units.render(make_stats(make_site("a", count), rates, samples=8), Screen(width=width))
    assert cells(text) == ("✗▂▃▄▅▆▇██" * count)[:count]
    dead = len(range(0, count, 9))
    assert f"{dead} dead" in " ".join(text.split())


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_lines_fit_and_end_without_spaces(canonical: Report, width: int, unicode: bool) -> None:
    for stats in canonical.sites:
        text = units.render(stats, Screen(width=width, unicode=unicode))
        assert all(cell_len(line) <= max(width, 24) and line == line.rstrip() for line in text.splitlines())
        assert unicode or text.isascii()


def test_a_nonfinite_unit_is_marked_and_listed_and_not_called_dead(canonical: Report) -> None:
    text = units.render(canonical.sites[5])
    assert cells(text) == "█?▄✗"
    assert "NaN or infinite: 1\ndead: 3\n" in text
    assert "was −0.4, in unit 3" in text


def test_ascii_cells_are_the_tenths_of_the_rate() -> None:
    stats = make_stats(make_site("a", 5), [0.0, 0.001, 0.25, 0.99, 1.0])
    assert cells(units.render(stats, Screen(unicode=False))) == "X.299"


def test_of_very_many_units_only_rows_with_a_sick_one_are_shown() -> None:
    stats = make_stats(make_site("a", 100_000), [0.0 if unit in (7, 55_555) else 0.5 for unit in range(100_000)])
    text = units.render(stats)
    assert "    0 " in text
    assert "55550 " in text
    assert "… and 1,998 rows in which every unit fires" in text
    assert len(text.splitlines()) < 15
    assert len(cells(units.render(stats, full=True))) == 100_000


def test_colour_adds_only_escape_codes(canonical: Report) -> None:
    for stats in canonical.sites:
        coloured = units.render(stats, Screen(color=True))
        assert "\x1b[" in coloured
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == units.render(stats)
