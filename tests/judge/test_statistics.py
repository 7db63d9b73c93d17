"""Statistics from counts: closed forms, planted units, and laws."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.errors import UsageError
from deadrelu.judge.statistics import add_counts, compute_stats, samples_needed, silence_bound
from deadrelu.report import Counts, SiteStats
from tests.conftest import make_site

confidences = st.floats(0.5, 0.999)


@given(st.integers(1, 10**7), confidences)
def test_a_unit_that_fires_as_often_as_the_bound_stays_silent_with_probability_alpha(n: int, confidence: float) -> None:
    bound = silence_bound(n, confidence)
    assert math.exp(n * math.log1p(-bound)) == pytest.approx(1 - confidence, rel=1e-6)


def test_the_silence_bound_of_design_and_the_rule_of_three() -> None:
    assert silence_bound(1797, 0.95) == pytest.approx(0.0016657, abs=1e-7)
    assert silence_bound(10**9, 0.95) == pytest.approx(-math.log(0.05) / 10**9, rel=1e-8)
    assert silence_bound(0, 0.95) == 1.0


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"), [(0.01, 0.95, 299), (0.5, 0.75, 2), (0.1, 0.95, 29), (1.0, 0.95, 1)]
)
def test_samples_needed_agrees_with_known_values(rate: float, confidence: float, needed: int) -> None:
    assert samples_needed(rate, confidence) == needed


@given(st.floats(1e-5, 0.99), confidences)
def test_samples_needed_is_the_smallest_number_that_proves_the_rate(rate: float, confidence: float) -> None:
    needed = samples_needed(rate, confidence)
    assert silence_bound(needed, confidence) <= rate < silence_bound(needed - 1, confidence)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, math.nan])
def test_no_number_of_samples_proves_an_impossible_rate(rate: float) -> None:
    with pytest.raises(UsageError, match="no number of samples"):
        samples_needed(rate, 0.95)


def counted(**changes: object) -> Counts:
    """Six units at 200 positions: dead, rare, at the limit of rare, half, always on, silent but for a NaN."""
    planted: dict[str, object] = {
        "samples": 50,
        "rows": 50,
        "positions": 200,
        "fires": (0, 1, 2, 100, 200, 0),
        "row_fires": (0, 1, 2, 25, 50, 0),
        "maxima": (-0.5, 0.1, 0.2, 3.0, 4.0, None),
        "output_sums": (0.0, 2.0, 4.0, 34.0, 80.0, 0.0),
        "nonfinite": (0, 0, 0, 0, 0, 3),
    }
    return Counts(**(planted | changes))  # type: ignore[arg-type]


def described(counts: Counts) -> SiteStats:
    return compute_stats(make_site("a", len(counts.fires)), counts, rare_below=0.01, confidence=0.95)


def test_planted_units_are_told_apart() -> None:
    stats = described(counted())
    assert (stats.dead_units, stats.rare_units, stats.always_on_units, stats.nonfinite_units) == (
        (0,),
        (1,),
        (4,),
        (5,),
    )
    assert stats.firing_rate == (0.0, 0.005, 0.01, 0.5, 1.0, 0.0)
    assert stats.sample_rate == (0.0, 0.02, 0.04, 0.5, 1.0, 0.0)
    assert stats.mean_activation == (0.0, 0.01, 0.02, 0.17, 0.4, 0.0)
    assert stats.dormancy == pytest.approx((0.0, 0.1, 0.2, 1.7, 4.0, 0.0))
    assert stats.silence_bound == silence_bound(50, 0.95)
    assert stats.rate_per == "sample"


def test_a_unit_that_met_nan_is_neither_dead_nor_rare() -> None:
    stats = described(counted(fires=(0, 1, 2, 100, 200, 1)))
    assert 5 not in (*stats.dead_units, *stats.rare_units)


def test_if_only_firing_was_measured_the_rates_of_units_that_fired_are_unknown() -> None:
    stats = compute_stats(make_site("a", 6), counted(), rare_below=0.01, confidence=0.95, stats="fired")
    assert stats.firing_rate == stats.sample_rate == (0.0, None, None, None, None, 0.0)
    assert (stats.dead_units, stats.rare_units) == ((0,), ())


def test_a_site_that_flattens_time_into_the_batch_has_rates_per_row_and_a_bound_from_samples() -> None:
    stats = described(counted(rows=100))
    assert stats.rate_per == "row"
    assert stats.sample_rate[3] == 0.25
    assert stats.silence_bound == silence_bound(50, 0.95)


def test_dormancy_is_unknown_if_all_outputs_are_zero_or_a_sum_is_non_finite() -> None:
    assert described(counted(output_sums=(0.0,) * 6)).dormancy == (None,) * 6
    broken = described(counted(output_sums=(0.0, 2.0, 4.0, 34.0, math.nan, math.inf)))
    assert broken.dormancy == (None,) * 6
    assert broken.mean_activation == (0.0, 0.01, 0.02, 0.17, None, None)


def test_without_samples_no_unit_is_dead_and_nothing_is_proved() -> None:
    stats = described(counted(samples=0, rows=0, positions=0, fires=(0,) * 6, row_fires=(0,) * 6, nonfinite=(0,) * 6))
    assert (stats.dead, stats.always_on_units, stats.silence_bound) == (0, (), 1.0)


numbers = st.integers(0, 2**40)


def tuples(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.tuples(values, values, values)


# Whole numbers below 2^42 add exactly as floats, so that the law is tested and not the rounding.
counts = st.builds(
    Counts,
    samples=numbers,
    rows=numbers,
    positions=numbers,
    fires=tuples(numbers),
    row_fires=tuples(numbers),
    maxima=tuples(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    output_sums=tuples(numbers.map(float)),
    nonfinite=tuples(numbers),
)


@given(counts, counts, counts)
def test_counts_add_in_any_order_and_grouping(a: Counts, b: Counts, c: Counts) -> None:
    assert add_counts(a, b) == add_counts(b, a)
    assert add_counts(add_counts(a, b), c) == add_counts(a, add_counts(b, c))


def test_the_sum_of_two_scans_is_the_scan_of_both_data_sets() -> None:
    both = add_counts(counted(), counted(maxima=(-0.2, None, 0.3, 1.0, 5.0, None)))
    assert (both.samples, both.rows, both.positions, both.fires) == (100, 100, 400, (0, 2, 4, 200, 400, 0))
    assert both.maxima == (-0.2, 0.1, 0.3, 3.0, 5.0, None)
    assert described(both).firing_rate == tuple(float(Fraction(f, 400)) for f in both.fires)


def test_counts_of_different_sites_cannot_be_added() -> None:
    with pytest.raises(UsageError, match="6 units and of 5 units cannot be added"):
        add_counts(counted(), counted(fires=(0,) * 5))
