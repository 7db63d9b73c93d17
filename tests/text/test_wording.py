"""Figures in words: never misleadingly rounded, never longer than necessary."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.text.wording import count, exact_percent, percent, ranges


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_percentage_never_rounds_a_part_to_nothing_or_to_all(part: int, rest: int) -> None:
    shown = float(percent(part / (part + rest)).rstrip("%"))
    assert 0 < shown < 100
    assert shown == pytest.approx(100 * part / (part + rest), rel=0.06)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0%"), (1, "100%"), (0.046875, "4.7%"), (0.0025, "0.25%"), (0.5, "50%"), (0.9999, "99.99%"), (0.1, "10%")],
)
def test_percentages_as_a_person_would_write_them(fraction: float, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.05, "5%"), (0.07, "7%"), (0.125, "12.5%"), (0.001, "0.1%")])
def test_a_limit_is_written_as_it_was_given(fraction: float, text: str) -> None:
    assert exact_percent(fraction) == text


def test_one_is_singular() -> None:
    assert [count(n, "batch", "batches") for n in (0, 1, 1797)] == ["0 batches", "1 batch", "1,797 batches"]


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_the_units(units: set[int]) -> None:
    text = ranges(sorted(units), limit=100)
    named = [piece.split("–") for piece in text.split(", ")] if text else []
    assert {n for piece in named for n in range(int(piece[0]), int(piece[-1]) + 1)} == units


def test_after_the_limit_the_rest_is_counted() -> None:
    assert ranges([0, 1, 2, 5, 8, 9], limit=2) == "0–2, 5 and 2 more"


COUNTED = re.compile(
    r" (?:[a-z]+ )?(?:units|sites|samples|tensors|batches|entries|values|channels|sequences|axes|bytes|calls|models"
    r"|positions|features|rules|keys|files|layers|reports|rows|parameters|inputs|images|shards|classes|findings)\b"
)
PACKAGE = Path(__file__).parents[2] / "deadrelu"


SEVERAL = (
    "{len(contexts)} models",  # more than one model is refused so
    "{len(content)} bytes",  # more than LONGEST
    "{len(old.parameters)} units",  # of a PReLU with slopes of its own
    "{len(calls)} calls",  # a module that is called more than once
    "{len(sites)} calls",  # the same
    "{len(dead)} units",  # these three stand beside words of their own for one
    "{stats.site.units} units",
    "{summary.units} units",
)


def bypasses(source: str) -> list[str]:
    """The plural nouns that stand behind a formatted number which `count` has not put into words."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for number, noun in itertools.pairwise(node.values):
            if not (isinstance(number, ast.FormattedValue) and isinstance(noun, ast.Constant)):
                continue
            match = COUNTED.match(str(noun.value))
            text = ast.unparse(number.value)
            digits = re.search(r"len\(|\bunits\b|dead\b|samples|channels|number|total", text)
            if match and digits and not text.startswith(("count(", "ranges(")):
                found.append(f"{{{text}}}{match[0]}")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_count_puts_a_counted_noun_into_words(path: Path) -> None:
    assert [found for found in bypasses(path.read_text(encoding="utf-8")) if found not in SEVERAL] == []


def test_the_check_can_fail() -> None:
    assert bypasses('f"{len(x)} tensors"') == ["{len(x)} tensors"]
    assert bypasses('f"{dead:,} dead units of {site}"') == ["{dead} dead units"]
    assert bypasses("f\"{count(dead, 'dead unit')} and {name} units\"") == []
