"""`python -m benchmarks.trial_jobs`: how much sooner a trial ends with two processes than with one.

Both run the same 16 jobs with one thread each, by turns; what counts is from the first job to the last, without the
start of the command.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from deadrelu.data.spec import DataSpec, Labelling, LossSpec
from deadrelu.load.spec import ModelSpec
from deadrelu.training.trial.grammar import parse_arms
from deadrelu.training.trial.job import Job, Setup
from deadrelu.training.trial.pool import Here, Processes, Runner, Work, cores
from deadrelu.training.trial.recipe import Recipe


def seconds(runner: Runner, jobs: list[Job]) -> float:
    """How long the jobs take."""
    begun = time.perf_counter()
    outcomes = [outcome for _, outcome in runner.run(jobs, lambda: None)]
    assert all(outcome.run.failed is None for outcome in outcomes)
    return time.perf_counter() - begun


def main() -> None:
    """Print the ratio of one process to two."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    setup = Setup(
        model=ModelSpec(model="sample_models/dying.pt"),
        train=DataSpec(data="sample_models/digits.npz", labelling=Labelling(), batch_size=64),
        val=None,
        loss=LossSpec(loss="cross_entropy"),
        recipe=Recipe(epochs=asked.epochs).lasting(23),
    )
    jobs = [Job(place, arm, seed) for place, arm in enumerate(parse_arms(["reinit"])) for seed in range(8)]
    ratios = []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            work = Work(setup, Path(folder))
            one, two = seconds(Here(work), jobs), seconds(Processes(work, 2), jobs)
        ratios.append(one / two)
        print(f"{len(jobs)} jobs on {cores()} cores: {one:.1f} s with one, {two:.1f} s with two: {ratios[-1]:.2f}")
    print(f"median {median(ratios):.2f}")


if __name__ == "__main__":
    main()
