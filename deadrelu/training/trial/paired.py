"""Compares arms with a baseline, paired by seed and by validation sample.

Scores d = arm − baseline form a table of seeds × samples, d_si = μ + a_s + b_i + e_si: both the seeds and the samples
are random draws, so the variance of the mean counts both (a crossed two-way layout with random effects; Searle,
Casella and McCulloch 1992, ch. 4). With mean squares MS_A of the seeds, MS_B of the samples and MS_E of the rest,

    Var(mean) = (MS_A + MS_B − MS_E) / (seeds · samples),

never taken below MS_A or MS_B alone over seeds · samples, with degrees of freedom by Satterthwaite (1946). Where scores
are right or wrong, the standard error is at least one sample: without that, arms that agree on all samples would be the
same for certain. The interval is Student's. Each arm is one comparison; Holm (1979) corrects for their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from deadrelu.report.trial import ArmVerdict, Difference

ALPHA = 0.05
POWER = 0.8
"""A true difference of `Difference.detectable` is found with this probability."""


@dataclass(frozen=True)
class Spread:
    """A mean difference with its standard error and degrees of freedom; None where a single seed has none."""

    estimate: float
    error: float | None
    freedom: float
    pairs: int
    wins: int


def spread_of(arm: Mapping[int, Sequence[float]], baseline: Mapping[int, Sequence[float]], sign: int) -> Spread | None:
    """The mean of arm − baseline over the seeds that both have; None if there is none.

    The scores of each seed are in the order of the validation samples. `sign` is 1 where a larger score is better.
    """
    seeds = sorted(set(arm) & set(baseline))
    if not seeds:
        return None
    table = np.array([np.subtract(arm[seed], baseline[seed]) for seed in seeds], dtype=np.float64)
    by_seed = table.mean(1)
    estimate, wins = float(by_seed.mean()), int((sign * by_seed > 0).sum())
    if len(seeds) < 2:
        return Spread(estimate, None, 0, len(seeds), wins)
    if table.shape[1] < 2:
        return Spread(estimate, float(stats.sem(by_seed)), len(seeds) - 1, len(seeds), wins)
    error, freedom = _error(table)
    if np.isin(table, (-1, 0, 1)).all():  # right or wrong: what few samples show may be one sample's luck
        error = max(error, 1 / table.shape[1])
    return Spread(estimate, error, freedom, len(seeds), wins)


def _error(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """The standard error of the mean of `(seeds, samples)`, and its degrees of freedom."""
    seeds, samples = table.shape
    mean, by_seed, by_sample = table.mean(), table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    freedoms = np.array([seeds - 1, samples - 1, (seeds - 1) * (samples - 1)], dtype=np.float64)
    of_seeds = samples * ((by_seed - mean) ** 2).sum() / freedoms[0]
    of_samples = seeds * ((by_sample - mean) ** 2).sum() / freedoms[1]
    rest = ((table - by_seed - by_sample + mean) ** 2).sum() / freedoms[2]
    total = max(of_seeds + of_samples - rest, of_seeds, of_samples)
    squares = np.array([of_seeds, of_samples, rest]) ** 2 / freedoms
    freedom = float(total**2 / squares.sum()) if squares.sum() > 0 else float(freedoms[0])
    return math.sqrt(total / (seeds * samples)), max(freedom, float(freedoms[0]))


def judge_arms(spreads: Sequence[Spread | None], sign: int) -> list[tuple[ArmVerdict, Difference | None]]:
    """The verdict on each arm, with Holm's correction over all of them; `sign` as above.

    The interval of an arm excludes 0 exactly where it is better or worse. One seed is never evidence.
    """
    raw = [None if spread is None else _p(spread) for spread in spreads]
    known = sorted((p, place) for place, p in enumerate(raw) if p is not None)
    adjusted: dict[int, float] = {}
    levels: dict[int, float] = {}
    largest, level, rejects = 0.0, ALPHA, True
    for rank, (p, place) in enumerate(known):
        left = len(spreads) - rank
        if rejects:
            level = ALPHA / left
            rejects = p <= level
        largest = max(largest, min(1.0, p * left))
        adjusted[place], levels[place] = largest, level
    return [
        ("no evidence", None) if spread is None else _judged(spread, adjusted.get(place), levels.get(place), sign)
        for place, spread in enumerate(spreads)
    ]


def _p(spread: Spread) -> float | None:
    """The two-sided p of no difference."""
    if spread.error is None:
        return None
    if spread.error == 0:
        return 1.0 if spread.estimate == 0 else 0.0
    return float(2 * stats.t.sf(abs(spread.estimate / spread.error), spread.freedom))


def _judged(spread: Spread, p: float | None, level: float | None, sign: int) -> tuple[ArmVerdict, Difference]:
    """The verdict and the difference with its interval, at the level that Holm's correction leaves the arm."""
    difference = Difference(
        estimate=spread.estimate,
        low=None,
        high=None,
        p=p,
        level=None,
        detectable=None,
        pairs=spread.pairs,
        wins=spread.wins,
    )
    if spread.error is None or p is None or level is None:
        return "no evidence", difference
    reach = float(stats.t.isf(level / 2, spread.freedom)) * spread.error
    difference = replace(
        difference,
        low=spread.estimate - reach,
        high=spread.estimate + reach,
        level=1 - level,
        detectable=reach + float(stats.t.isf(1 - POWER, spread.freedom)) * spread.error,
    )
    if p > ALPHA or spread.estimate == 0:
        return "no evidence", difference
    return ("better" if sign * spread.estimate > 0 else "worse"), difference
