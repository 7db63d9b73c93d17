"""`python -m benchmarks.textbooks`: activations, initialisations and depths of the textbooks, tried on digits.

Plain networks of 64 units a layer: sigmoid, ReLU, leaky ReLU, PReLU and ELU; weights by PyTorch's default, by Glorot
and Bengio ("Xavier") and by He et al.; 3, 10 and 30 hidden layers. Each depth is one trial, with ReLU and PyTorch's
default as the baseline. Prints Markdown: what docs/experiments.md has.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import mean, median, stdev

import torch
from torch import nn

import deadrelu
from deadrelu.report.trial import ArmResult, Trial

DATA = "sample_models/digits.npz"
WIDTH = 64
DEPTHS = (3, 10, 30)
ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "relu": "keep",
    "leaky relu 0.01": "leaky_relu:0.01",
    "prelu": "prelu",
    "elu": "elu",
}
INITIALISATIONS = {"default": "", "xavier": "init:xavier", "he": "init:he"}


def plain(depth: int) -> nn.Sequential:
    """So many hidden layers, and ten classes."""
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 10))


def depth_3() -> nn.Sequential:
    """As `--arch` and a trial name it."""
    return plain(3)


def depth_10() -> nn.Sequential:
    """As `--arch` and a trial name it."""
    return plain(10)


def depth_30() -> nn.Sequential:
    """As `--arch` and a trial name it."""
    return plain(30)


def arms() -> dict[tuple[str, str], str]:
    """What each pair of activation and initialisation is in the grammar of a trial."""
    found = {}
    for activation, change in ACTIVATIONS.items():
        for scheme, init in INITIALISATIONS.items():
            words = [word for word in (change, init) if word and word != "keep"]
            found[activation, scheme] = "+".join(words) or "keep"
    return found


def trial_of(depth: int, seeds: int, epochs: int, jobs: int) -> Trial:
    """All arms at this depth."""
    words = list(arms().values())
    words.sort(key=lambda word: word != "keep")
    return deadrelu.trial(
        f"benchmarks.textbooks:depth_{depth}",
        DATA,
        arms=words,
        seeds=seeds,
        epochs=epochs,
        batch_size=64,
        jobs=jobs,
    )


def rows(depth: int, trial: Trial) -> Iterator[str]:
    """The trial as rows of a Markdown table: accuracy by initialisation, then figures of all three at once."""
    by_recipe = {arm.recipe: arm for arm in trial.arms}
    for activation in ACTIVATIONS:
        of = [by_recipe[arms()[activation, scheme]] for scheme in INITIALISATIONS]
        cells = [_accuracy(arm) for arm in of]
        columns = (_dead_at_start, _dead_at_end, _largest_gradient, _steps)
        cells += [" / ".join(column(arm) for arm in of) for column in columns]
        yield f"| {depth} | {activation} | {' | '.join(cells)} |"


def _accuracy(arm: ArmResult) -> str:
    """Mean and standard deviation over the seeds, and whether that differs from the baseline."""
    found = [100 * run.metric for run in arm.finished if run.metric is not None]
    sign = {"better": " ✓", "worse": " ✗", "no evidence": "", "baseline": " ○"}[arm.verdict]
    spread = f" ± {stdev(found):.1f}" if len(found) > 1 else ""
    diverged = f", {arm.diverged} diverged" if arm.diverged else ""
    return f"{mean(found):.1f}{spread}{sign}{diverged}"


def _dead_at_start(arm: ArmResult) -> str:
    return f"{100 * mean(run.curve[0].dead_fraction or 0 for run in arm.finished):.0f}%"


def _dead_at_end(arm: ArmResult) -> str:
    return f"{100 * mean(run.dead_fraction or 0 for run in arm.finished):.0f}%"


def _largest_gradient(arm: ArmResult) -> str:
    """The largest norm of the gradient of each run; the median over the runs."""
    return f"{median(run.gradient_norm_max or 0 for run in arm.finished):.2g}"


def _steps(arm: ArmResult) -> str:
    """The median number of steps to the baseline's best."""
    steps = sorted(run.steps_to_target or 10**9 for run in arm.finished)
    middle = steps[len(steps) // 2]
    return "never" if middle == 10**9 else str(middle)


def main() -> None:
    """Run the trials, and print their tables."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = ["layers", "activation", *INITIALISATIONS, "dead at first", "dead at last", "largest gradient", "steps"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for depth in DEPTHS:
        for row in rows(depth, trial_of(depth, asked.seeds, asked.epochs, asked.jobs)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
