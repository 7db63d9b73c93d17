"""Figures in words: never rounded into a lie, never longer than need be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.wording import count, did_you_mean, exact_percent, percent, ranges


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_percentage_never_rounds_something_to_nothing_or_part_to_all(part: int, rest: int) -> None:
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
def test_ranges_name_each_unit_and_no_other(units: set[int]) -> None:
    text = ranges(sorted(units), limit=100)
    named = [piece.split("–") for piece in text.split(", ")] if text else []
    assert {n for piece in named for n in range(int(piece[0]), int(piece[-1]) + 1)} == units


def test_past_the_limit_the_rest_is_counted() -> None:
    assert ranges([0, 1, 2, 5, 8, 9], limit=2) == "0–2, 5 and 2 more"


def test_the_nearest_name_is_meant_whatever_its_case_and_none_if_none_is_near() -> None:
    known = ["Net", "Decoder", "Encoder{}"]
    assert did_you_mean("Nett", known) == "did you mean Net?"
    assert did_you_mean("DECODER", known, write="m.py:{}") == "did you mean m.py:Decoder?"
    assert did_you_mean("Encoder", known) == "did you mean Encoder{}?"
    assert did_you_mean("zebra", known) == did_you_mean("x", []) == ""
