"""The table: readable at any width, without hiding a sick site or trusting a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from deadrelu.judge.policy import Policy
from deadrelu.render.terminal import table
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.shorten import shorten
from deadrelu.report import DataInfo, Report, SiteStats, Skipped
from tests.conftest import make_report, make_site, make_stats

ANSI = re.compile(r"\x1b\[[0-9;]*m")
SKIPPED = (Skipped(id="x", op="relu", reason="never called"),)
SYNTHETIC = DataInfo(source=None, kind="synthetic", samples=64, batches=2, seed=7)


def healthy(name: str = "a.relu", units: int = 10) -> SiteStats:
    return make_stats(make_site(name, units), [0.5] * units)


def sickly(name: str = "b.relu", dead: int = 1, units: int = 10) -> SiteStats:
    return make_stats(make_site(name, units), [0.0] * dead + [0.5] * (units - dead))


def statistics(text: str) -> str:
    """The conclusion, on one line."""
    return " ".join(text.split("\n\n")[-3].split())


def verdict_line(text: str) -> str:
    """The verdict and what decided it, on one line."""
    return " ".join(text.split("\n\n")[-2].split())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_matches_the_golden_file(canonical: Report, golden: Callable[[str, str], None], width: int) -> None:
    golden(f"table-{width}.txt", table.render(canonical, Screen(width=width)))


def test_the_coloured_and_the_ascii_table_match_the_golden_files(
    canonical: Report, golden: Callable[[str, str], None]
) -> None:
    golden("table-80-color.txt", table.render(canonical, Screen(color=True)))
    golden("table-80-ascii.txt", table.render(canonical, Screen(unicode=False)))


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [30, 40, 57, 79, 80, 81, 100, 120, 200, 400])
def test_lines_fit_except_the_command_and_none_ends_in_spaces(canonical: Report, width: int, unicode: bool) -> None:
    *lines, command = table.render(canonical, Screen(width=width, unicode=unicode)).splitlines()
    assert command.startswith("  deadrelu ")
    assert [line for line in lines if cell_len(line) > width] == []
    assert [line for line in [*lines, command] if line != line.rstrip()] == []
    assert unicode or all(line.isascii() for line in lines)


def test_colour_adds_only_escape_codes(canonical: Report) -> None:
    coloured, plain = table.render(canonical, Screen(color=True)), table.render(canonical)
    assert "\x1b" not in plain
    assert ANSI.search(coloured)
    assert ANSI.sub("", coloured) == plain
    assert not re.search(r" (\x1b\[[0-9;]*m)*\n", coloured)


def test_the_environment_changes_nothing(canonical: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table.render(canonical, Screen(color=True))
    for name, value in {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "20", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert table.render(canonical, Screen(color=True)) == before


def test_markup_in_names_is_preserved_and_control_codes_are_escaped() -> None:
    name = "a.[red]x[/red]\n\x1b[2J\u202e:smile:"
    report = make_report([sickly(name)], skipped=(Skipped(id=name, op="relu", reason="[bold]why\x1b[0m"),))
    text = table.render(report, Screen(width=120))
    assert text.count(r"a.[red]x[/red]\n\x1b[2J\u202e:smile:") >= 2
    assert r"[bold]why\x1b[0m" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [80, 200])
def test_the_totals_are_the_sums_of_the_rows(canonical: Report, width: int) -> None:
    lines = table.render(canonical, Screen(width=width)).splitlines()
    header = next(n for n, line in enumerate(lines) if line.startswith("   site"))
    rule = next(n for n, line in enumerate(lines) if line.startswith(" ───"))
    assert rule - header - 1 == len(canonical.sites)
    for title in ("units", "dead", "rare"):
        start = lines[header].index(title)
        column = [int(line[start : start + len(title)]) for line in (*lines[header + 1 : rule], lines[rule + 1])]
        assert sum(column[:-1]) == column[-1] == getattr(canonical.summary, title)


def test_a_wholly_dead_site_is_loud_with_and_without_colour(canonical: Report) -> None:
    row = next(line for line in table.render(canonical).splitlines() if line.startswith(' ✗ we"ird'))
    assert "100%" in row
    assert "ALL DEAD" in row
    assert "\x1b[1;37;41m" in table.render(canonical, Screen(color=True))


def test_among_many_sites_the_healthy_are_counted_and_the_sick_are_listed() -> None:
    sites = [sickly(f"block{n}.relu") if n % 7 == 0 else healthy(f"block{n}.relu") for n in range(400)]
    rare = replace(healthy("rare.relu"), firing_rate=(0.001,) + (0.5,) * 9)
    report = make_report([*sites, rare])
    text = table.render(report)
    for n in range(0, 400, 7):
        assert f"block{n}.relu " in text
    assert f"… and {401 - 58} healthy sites without a dead unit, 1 with rare ones" in text
    assert "block1.relu " not in text
    full = table.render(report, full=True)
    assert all(f"block{n}.relu " in full for n in range(400))
    assert "healthy site" not in full


def test_among_many_healthy_sites_those_with_rare_units_are_shown_first() -> None:
    rare = [make_stats(make_site(f"rare{n}", 4), [0.001, 0.5, 0.5, 0.5]) for n in range(3)]
    text = table.render(make_report([*(healthy(f"s{n}") for n in range(60)), *rare]))
    assert all(f"rare{n} " in text.split("Findings")[0] for n in range(3))
    assert "… and 43 healthy sites without a dead unit (--full" in text


@given(st.lists(st.text("ab.", min_size=1, max_size=40), min_size=1, max_size=8, unique=True), st.integers(12, 30))
def test_shortened_names_fit_and_differ(names: list[str], width: int) -> None:
    shown = shorten(names, width, "…")
    assert all(cell_len(line) <= width for lines in shown for line in lines)
    assert len({tuple(lines) for lines in shown}) == len(names)
    for name, lines in zip(names, shown, strict=True):
        head, _, tail = "".join(lines).partition("…")
        assert name == head + tail if not tail and head == name else name.startswith(head) and name.endswith(tail)


def test_names_that_differ_in_one_letter_far_inside_still_differ() -> None:
    names = [f"encoder.stage.{'x' * 20}{n}{'y' * 20}.relu" for n in range(10)]
    assert len({tuple(lines) for lines in shorten(names, 16, "…")}) == 10
    text = table.render(make_report([healthy(name) for name in names]), Screen(width=40))
    assert [str(n) in text for n in range(10)] == [True] * 10


def test_wide_letters_count_as_two_columns() -> None:
    text = table.render(make_report([healthy("层" * 30), healthy("a")]), Screen(width=80))
    wide, narrow = (line for line in text.splitlines() if line.startswith(" ✓"))
    assert "…" in wide
    assert cell_len(wide) == cell_len(narrow) == 80


def test_the_conclusion_claims_no_more_than_the_silence_bound() -> None:
    text = table.render(make_report([sickly(), healthy()], policy=Policy(max_dead=0.5)))
    # 1 − 0.05^(1/1797) is 1 in 600.3: 600 is proved, 601 is not.
    assert statistics(text) == (
        "1 of 20 units (5%) never fired on 1,797 samples; at 95% confidence it would fire on fewer than 1 in 600"
        " fresh samples, if the samples are independent."
    )


def test_the_conclusion_says_that_every_unit_fired() -> None:
    text = table.render(make_report([healthy()]))
    assert statistics(text) == "All 10 units fired at least once on 1,797 samples."
    assert verdict_line(text) == "PASS no unit is dead; no limit was given"


def test_synthetic_data_is_named_in_the_header_and_in_the_conclusion() -> None:
    text = table.render(make_report([sickly()], data=SYNTHETIC))
    assert "SYNTHETIC inputs (seed 7), no real data" in text.split("\n\n")[0]
    assert statistics(text) == (
        "1 of 10 units (10%) never fired on 64 synthetic samples; synthetic inputs give a hint, not evidence."
    )
    assert "Measure on real samples: add --data" in text


@pytest.mark.parametrize(
    ("report", "colour"),
    [
        (make_report([healthy()]), "32"),
        (make_report([healthy()], skipped=SKIPPED), "33"),
        (make_report([healthy()], skipped=SKIPPED, policy=Policy(ignore=("DR008",))), "33"),
        (make_report([healthy()], data=SYNTHETIC, policy=Policy(ignore=("DR009",))), "33"),
        (make_report([sickly()]), "33"),
        (make_report([sickly()], policy=Policy(max_dead=0.1)), "32"),
        (make_report([sickly()], policy=Policy(max_dead=0.0)), "31"),
        (make_report([]), "33"),
    ],
)
def test_only_a_pass_on_real_data_with_nothing_skipped_is_green(report: Report, colour: str) -> None:
    verdict = re.search(r"\x1b\[1;7;(\d+)m (PASS|FAIL|NOTHING MEASURED) ", table.render(report, Screen(color=True)))
    assert verdict is not None
    assert verdict[1] == colour


def test_a_skipped_site_has_its_reason_even_if_nothing_was_measured() -> None:
    text = table.render(make_report([], skipped=(Skipped(id="aux.relu", op="relu", reason="never\ncalled"),)))
    assert " ? aux.relu  relu  never called\n" in text
    assert statistics(text).startswith("No activation site ran, so nothing is known")
    assert verdict_line(text) == "NOTHING MEASURED no activation site ran"


@pytest.mark.parametrize(
    ("report", "command"),
    [
        (make_report([sickly()]), "deadrelu suggest 'my model.pt' --data v.npz"),
        (make_report([healthy()]), "deadrelu scan 'my model.pt' --data v.npz --max-dead 5% --strict"),
        (
            make_report([healthy()], policy=Policy(max_dead=0.0)),
            "deadrelu scan 'my model.pt' --data v.npz -o json=report.json",
        ),
    ],
)
def test_the_next_command_can_be_copied(report: Report, command: str) -> None:
    report = replace(report, settings={**report.settings, "invocation": ("my model.pt", "--data=v.npz")})
    assert table.render(report).endswith(f"\n  {command}\n")


@pytest.mark.parametrize("report", [make_report([sickly()]), make_report([healthy()])])
def test_a_model_in_memory_gets_python_and_a_merged_report_a_sentence(report: Report) -> None:
    report = replace(report, settings={**report.settings, "invocation": None})
    live = replace(report, model=replace(report.model, path=None))
    assert re.search(r"\n  deadrelu\.(suggest|check)\(.*\)\n$", table.render(live))
    assert "deadrelu scan" not in table.render(report)
    assert re.search(r"(pass the JSON report to deadrelu suggest|add --max-dead 5%)\.\n$", table.render(report))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=50), st.lists(st.sampled_from([0.0, 0.001, 0.5, 1.0]), min_size=1, max_size=30)),
        max_size=6,
    ),
    st.integers(1, 250),
    st.booleans(),
)
def test_no_name_width_or_number_of_sites_makes_it_fail(
    sites: list[tuple[str, list[float]]], width: int, unicode: bool
) -> None:
    stats = [make_stats(make_site(name, len(rates), after=name), rates) for name, rates in sites]
    text = table.render(make_report(stats), Screen(width=width, unicode=unicode))
    assert text.endswith("\n")
    assert all(line == line.rstrip() for line in text.split("\n"))


def test_a_hundred_thousand_units_are_one_row() -> None:
    text = table.render(make_report([make_stats(make_site("big", 100_000), [0.0, 0.5] * 50_000)]))
    assert "100,000  50,000    50% ━━" in text
    assert "and 49,992 more" in text
