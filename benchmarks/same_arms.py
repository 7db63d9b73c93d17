"""`python -m benchmarks.same_arms`: how often a trial finds a difference between two arms that are the same.

Each of 200 trials has a network and digits of its own. `keep` is trained with ten seeds; the last five stand for an arm
that differs from the first five in nothing but chance. A winner in 5% of the trials is what the verdict allows.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import nn

from deadrelu.data.spec import DataSpec, Labelling, LossSpec
from deadrelu.load.spec import ModelSpec
from deadrelu.training.trial.grammar import parse_arms
from deadrelu.training.trial.job import Job, Setup, run_job
from deadrelu.training.trial.paired import judge_arms, spread_of
from deadrelu.training.trial.recipe import Recipe

SEEDS = 5


def verdict(number: int, steps: int) -> str:
    """The verdict of one trial of `keep` against itself, on 240 digits to train and 60 to validate."""
    torch.manual_seed(number)
    x, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(number).permutation(len(x))[:300]
    data = {"x": torch.from_numpy(x[chosen] / 16).float(), "y": torch.from_numpy(y[chosen])}
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    setup = Setup(
        model=ModelSpec(model=model),
        train=DataSpec(data=data, labelling=Labelling(), batch_size=32),
        val=None,
        loss=LossSpec(loss="cross_entropy"),
        recipe=Recipe(steps=steps, lr=1e-2),
    )
    (keep,) = parse_arms(["keep"])
    scores = [run_job(setup, Job(0, keep, seed)).scores for seed in range(2 * SEEDS)]
    first, other = (dict(enumerate(scores[start : start + SEEDS])) for start in (0, SEEDS))
    return judge_arms([spread_of(other, first, 1)], 1)[0][0]


def main() -> None:
    """Run the trials, and print how many found a difference."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = Counter(verdict(number, asked.steps) for number in range(asked.trials))
    wrong = asked.trials - found["no evidence"]
    interval = stats.binomtest(wrong, asked.trials).proportion_ci(0.95)
    print(f"{wrong} of {asked.trials} trials found a difference ({100 * wrong / asked.trials:.1f}%,", end=" ")
    print(f"95% interval {100 * interval.low:.1f}% to {100 * interval.high:.1f}%): {dict(found)}")


if __name__ == "__main__":
    main()
