"""From counts to statistics: which units are dead, rare or always on, and how certain silence is."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import compress, starmap, zip_longest
from itertools import count as count_from

from deadrelu.errors import UsageError
from deadrelu.report import Counts, Site, SiteStats, Stats
from deadrelu.text.wording import count


def silence_bound(samples: int, confidence: float) -> float:
    """Return the firing probability that silence on n independent `samples` rules out: 1 − α^(1/n).

    α is 1 − confidence. It is the exact (Clopper–Pearson) one-sided upper bound for 0 successes in n draws; without
    samples it is 1.0.
    """
    return -math.expm1(math.log1p(-confidence) / samples) if samples else 1.0


def samples_needed(rate: float, confidence: float) -> int:
    """Return how many silent samples prove, at `confidence`, that a unit fires on fewer than `rate` of fresh samples.

    Raises `UsageError` unless `rate` is above 0 and at most 1: no number of samples proves that a unit never fires.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"no number of samples proves a firing rate below {rate}", hint="ask for a rate above 0")
    needed = math.ceil(math.log1p(-confidence) / math.log1p(-rate)) if rate < 1 else 1
    # The quotient of two rounded logarithms may be off by one.
    while silence_bound(needed, confidence) > rate:
        needed += 1
    while needed > 1 and silence_bound(needed - 1, confidence) <= rate:
        needed -= 1
    return needed


def rare_units(firing_rate: Sequence[float | None], nonfinite: Sequence[int], rare_below: float) -> tuple[int, ...]:
    """Return the units that fired, but at fewer than `rare_below` (in 0..1) of their positions.

    Units in `nonfinite` are left out: NaN is not silence, so their rate is only a lower bound. So are units whose rate
    is unknown (None).
    """
    unknown = set(nonfinite)
    return tuple([unit for unit, rate in enumerate(firing_rate) if rate and rate < rare_below and unit not in unknown])


def compute_stats(
    site: Site, counts: Counts, *, rare_below: float, confidence: float, stats: Stats = "full"
) -> SiteStats:
    """Compute the figures of a site from its counts.

    Dead units fired at no position and met no NaN or infinity, and their derivative was exactly zero at each; where it
    was not, they are saturated. Without any position, no unit is either. Dormancy is mean |output| over its mean across
    the site's units (Sokar et al. 2023, "The Dormant Neuron Phenomenon", eq. 1), None if that mean is 0 or non-finite.
    `rare_below` is in 0..1, `confidence` between 0 and 1. `stats` says how much was counted; with "fired", a count is
    only 0 or not. Unless it is "full", non-finite values are reported in silent units only: some counters find them in
    other units too, but the report must not depend on the counter.
    """
    positions, is_full = counts.positions, stats == "full"
    seen = list(enumerate(zip(counts.fires, counts.nonfinite, strict=True)))
    nonfinite = tuple([unit for unit, (fires, odd) in seen if odd and (is_full or not fires)])
    silent = [unit for unit, (fires, odd) in seen if not fires and not odd and positions]
    sloped, high = (set(compress(count_from(), flags)) for flags in (counts.sloped, counts.high))
    saturated = tuple([unit for unit in silent if unit in sloped])
    always_on = [unit for unit, fires in enumerate(counts.fires) if fires == positions]
    rates = _rates(counts.fires, positions, stats)
    nothing = (None,) * len(counts.fires)
    means = _ratios(counts.output_sums, positions) if is_full and positions else nothing
    return SiteStats(
        site=site,
        samples=counts.samples,
        positions=positions,
        rows=counts.rows,
        rate_per="sample" if counts.rows == counts.samples else "row",
        dead_units=tuple([unit for unit in silent if unit not in sloped]),
        rare_units=rare_units(rates, nonfinite, rare_below),
        always_on_units=tuple(always_on) if positions and stats != "fired" else (),
        nonfinite_units=nonfinite,
        firing_rate=rates,
        sample_rate=_rates(counts.row_fires, counts.rows, stats),
        max_preactivation=counts.maxima if is_full else nothing,
        mean_activation=means,
        dormancy=_dormancy(means),
        silence_bound=silence_bound(counts.samples, confidence),
        saturated_units=saturated,
        saturated_high_units=tuple([unit for unit in saturated if unit in high]),
        min_preactivation=counts.minima if is_full else nothing if counts.minima else (),
    )


def add_counts(a: Counts, b: Counts) -> Counts:
    """Return the sum of two counts; addition is associative and commutative.

    Raises `UsageError` if they have different numbers of units: then they are not of the same site.
    """
    if len(a.fires) != len(b.fires):
        raise UsageError(
            f"counts of {count(len(a.fires), 'unit')} and of {count(len(b.fires), 'unit')} cannot be added",
            hint="add counts of the same site of the same model",
        )
    return Counts(
        samples=a.samples + b.samples,
        rows=a.rows + b.rows,
        positions=a.positions + b.positions,
        fires=tuple(map(int.__add__, a.fires, b.fires)),
        row_fires=tuple(map(int.__add__, a.row_fires, b.row_fires)),
        maxima=tuple(_larger(*pair) for pair in zip(a.maxima, b.maxima, strict=True)),
        output_sums=tuple(map(float.__add__, a.output_sums, b.output_sums)),
        nonfinite=tuple(map(int.__add__, a.nonfinite, b.nonfinite)),
        minima=tuple(map(_smaller, a.minima, b.minima)),
        sloped=tuple(starmap(operator.or_, zip_longest(a.sloped, b.sloped, fillvalue=False))),
        high=tuple(map(operator.and_, a.high, b.high)),
    )


def _dormancy(means: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return each unit's mean |output| over the mean of the site."""
    sizes = [abs(mean) for mean in means if mean is not None]
    across = math.fsum(sizes) / len(sizes) if sizes else 0.0
    return _ratios(sizes, across) if across and len(sizes) == len(means) else (None,) * len(means)


def _larger(a: float | None, b: float | None) -> float | None:
    """Return the larger of two maxima, either of which may be missing."""
    return max((value for value in (a, b) if value is not None), default=None)


def _smaller(a: float | None, b: float | None) -> float | None:
    """Return the smaller of two minima, either of which may be missing."""
    return min((value for value in (a, b) if value is not None), default=None)


def _rates(fires: Sequence[int], of: int, stats: Stats) -> tuple[float | None, ...]:
    """Return each count over `of`; None if it is only known not to be 0."""
    if stats == "fired":
        return tuple([None if count else 0.0 for count in fires])
    return tuple([count / of if of else 0.0 for count in fires])


def _ratios(values: Sequence[float], of: float) -> tuple[float | None, ...]:
    """Return each value over `of`, which is not 0; None if the quotient is non-finite."""
    return tuple([ratio if math.isfinite(ratio := value / of) else None for value in values])
