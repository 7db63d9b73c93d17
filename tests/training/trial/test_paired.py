"""The judgement: how often it finds what is not there, how often what is, and that its interval and verdict agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from deadrelu.training.trial.paired import Spread, judge_arms, spread_of

Scores = Mapping[int, Sequence[float]]


def drawn(rng: np.random.Generator, hardness: np.ndarray, gain: float = 0.0, seeds: int = 5) -> Scores:
    """Right or wrong by sample: some samples are harder for all, and each seed is a little better or worse."""
    return {
        seed: (rng.random(len(hardness)) < np.clip(0.9 + gain + rng.normal(0, 0.01) - hardness, 0, 1)).astype(float)
        for seed in range(seeds)
    }


@pytest.mark.parametrize("arms", [1, 4])
def test_of_arms_that_are_the_same_few_trials_find_one_better_or_worse(arms: int) -> None:
    """200 trials: 5% of them and three standard errors are allowed."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        hardness = 0.2 * rng.random(300)
        baseline = drawn(rng, hardness)
        verdicts = judge_arms([spread_of(drawn(rng, hardness), baseline, 1) for _ in range(arms)], 1)
        wrong += any(verdict != "no evidence" for verdict, _ in verdicts)
    assert wrong / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_true_difference_of_the_detectable_size_is_found_in_most_trials() -> None:
    """In 4 of 5; the size is itself estimated, here by the median of 20 trials."""
    rng = np.random.default_rng(1)
    hardness = 0.2 * rng.random(400)

    def judged(gain: float) -> tuple[str, float]:
        ((verdict, difference),) = judge_arms([spread_of(drawn(rng, hardness, gain), drawn(rng, hardness), 1)], 1)
        assert difference is not None
        assert difference.detectable is not None
        return verdict, difference.detectable

    size = float(np.median([judged(0.0)[1] for _ in range(20)]))
    assert 68 <= sum(judged(size)[0] == "better" for _ in range(100)) <= 92


def test_the_samples_alone_are_enough_to_doubt_a_difference_on_which_all_seeds_agree() -> None:
    """One sample of 497 that every seed gets right where the baseline does not: no evidence, whatever a t-test says."""
    baseline = {seed: np.ones(497) for seed in range(5)}
    for scores in baseline.values():
        scores[7] = 0
    arm = {seed: np.ones(497) for seed in range(5)}
    ((verdict, difference),) = judge_arms([spread_of(arm, baseline, 1)], 1)
    assert verdict == "no evidence"
    assert difference is not None
    assert difference.wins == 5
    assert difference.p == pytest.approx(1, abs=0.7)


def test_with_one_score_a_seed_it_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    spread = spread_of({s: [a[s]] for s in range(6)}, {s: [b[s]] for s in range(6)}, 1)
    ((_, difference),) = judge_arms([spread], 1)
    expected = stats.ttest_rel(a, b)
    assert difference is not None
    assert difference.p == pytest.approx(expected.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_samples_that_do_not_vary_leave_the_seeds_alone() -> None:
    """Every sample of a seed has the same difference: then it is the t-test over seeds, whatever their number."""
    values = [0.1, 0.3, 0.2, 0.25]
    arm = {seed: np.full(50, value) for seed, value in enumerate(values)}
    spread = spread_of(arm, {seed: np.zeros(50) for seed in range(4)}, 1)
    assert spread is not None
    assert spread.error == pytest.approx(stats.sem(values))
    assert spread.freedom == pytest.approx(3)


def test_the_error_is_that_of_repeated_draws_of_seeds_and_samples() -> None:
    rng = np.random.default_rng(3)

    def table() -> np.ndarray:
        return 0.3 * rng.normal(size=(6, 1)) + 0.5 * rng.normal(size=(1, 40)) + rng.normal(size=(6, 40))

    def error(values: np.ndarray) -> float:
        spread = spread_of(dict(enumerate(values)), dict.fromkeys(range(6), np.zeros(40)), 1)
        assert spread is not None
        assert spread.error is not None
        return spread.error

    means = [table().mean() for _ in range(2000)]
    errors = [error(table()) ** 2 for _ in range(500)]
    assert np.mean(errors) ** 0.5 == pytest.approx(np.std(means), rel=0.1)


def test_an_interval_excludes_zero_exactly_where_the_arm_is_better_or_worse() -> None:
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(300):
        spreads = [
            Spread(float(rng.normal(0, 2)), float(rng.uniform(0.2, 1)), 8.0, 5, 3)
            for _ in range(int(rng.integers(1, 6)))
        ]
        for verdict, difference in judge_arms(spreads, 1):
            assert difference is not None
            assert difference.low is not None
            assert difference.high is not None
            assert (difference.low > 0) == (verdict == "better")
            assert (difference.high < 0) == (verdict == "worse")
            seen.add(verdict)
    assert seen == {"better", "worse", "no evidence"}


def test_the_correction_is_holms() -> None:
    """By hand: p of 0.01, 0.02 and 0.03 become 0.03, 0.04 and 0.04."""
    spreads = [Spread(float(stats.t.isf(p / 2, 10)), 1.0, 10, 5, 5) for p in (0.02, 0.01, 0.03)]
    found = [difference.p for _, difference in judge_arms(spreads, 1) if difference]
    assert found == pytest.approx([0.04, 0.03, 0.04])


def test_one_seed_is_never_evidence() -> None:
    ((verdict, difference),) = judge_arms([spread_of({0: np.ones(500)}, {0: np.zeros(500)}, 1)], 1)
    assert verdict == "no evidence"
    assert difference is not None
    assert (difference.estimate, difference.low, difference.p) == (1.0, None, None)


def test_of_a_loss_less_is_better() -> None:
    rng = np.random.default_rng(5)
    low = {seed: rng.normal(1.0, 0.1, 200) for seed in range(5)}
    high = {seed: rng.normal(2.0, 0.1, 200) for seed in range(5)}
    assert judge_arms([spread_of(low, high, -1), spread_of(high, low, -1)], -1)[0][0] == "better"
    assert judge_arms([spread_of(high, low, -1)], -1)[0][0] == "worse"


def test_without_a_seed_in_common_there_is_no_difference() -> None:
    assert judge_arms([spread_of({}, {0: [1.0]}, 1)], 1) == [("no evidence", None)]
