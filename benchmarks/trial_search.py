"""`python -m benchmarks.trial_search`: the arms that a scan suggests against random search with the same budget.

Four networks that are sick in different ways are repaired on digits. `--arms auto` trains its arms with three seeds
each, and gives the best model of the winner. Random search draws as many configurations (up to two changes of the
grammar, and a learning rate), trains each once, and gives the model with the best validation accuracy. Both are judged
on samples that neither has seen. Repair tools were found to be no better than random search (arXiv 2301.11568).
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import deadrelu
from deadrelu.data.spec import DataSpec, Labelling, LossSpec
from deadrelu.load.spec import ModelSpec
from deadrelu.training.trial.grammar import parse_arms
from deadrelu.training.trial.job import Job, Setup, run_job
from deadrelu.training.trial.recipe import Recipe

SEEDS, STEPS, BATCH = 3, 150, 64
CHANGES = {
    "activation": ("leaky_relu:0.01", "leaky_relu:0.1", "prelu", "elu", "gelu", "silu", "tanh"),
    "reinit": ("reinit",),
    "init": ("init:he", "init:xavier"),
    "bias": ("bias:0.1", "bias:0.01"),
    "norm": ("norm",),
    "dropout": ("dropout:0.1", "dropout:0.3"),
    "weight_decay": ("weight_decay:1e-4", "weight_decay:1e-2"),
    "clip": ("clip:1.0", "clip:auto"),
}

Rows = tuple[Tensor, Tensor]


def plain(depth: int, width: int) -> nn.Sequential:
    """A network of so many hidden layers for digits."""
    sizes = [64, *[width] * depth]
    hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def of_the_samples(_: Rows) -> nn.Module:
    """dying.pt: units that died of a learning rate that was too high."""
    model = torch.load("sample_models/dying.pt", weights_only=False)
    assert isinstance(model, nn.Module)
    return model


@torch.no_grad()
def shifted(_: Rows) -> nn.Module:
    """Biases far below 0 in the middle: all but four units of a layer are dead."""
    model = plain(3, 64)
    model[2].bias[4:] = -100.0
    return model


@torch.no_grad()
def too_large(_: Rows) -> nn.Module:
    """Ten narrow layers whose weights were drawn five times too large, with biases below 0."""
    model = plain(10, 16)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.mul_(5)
            layer.bias.fill_(-1.0)
    return model


def burnt(rows: Rows) -> nn.Module:
    """Trained for 30 steps with a learning rate that kills most units."""
    model = plain(3, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[0]), rows[1]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


SICK: dict[str, Callable[[Rows], nn.Module]] = {
    "dying.pt": of_the_samples,
    "biases far below 0": shifted,
    "weights too large": too_large,
    "burnt by its learning rate": burnt,
}


def divided(seed: int) -> tuple[Rows, Rows, Rows]:
    """Digits to train on, to choose by, and to judge by."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    rows = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    first, second, third = (
        (rows[0][part], rows[1][part]) for part in (slice(900), slice(900, 1300), slice(1300, None))
    )
    return first, second, third


def accuracy(path: Path, rows: Rows) -> float:
    """That of a saved model."""
    model = torch.load(path, weights_only=False).eval()
    with torch.no_grad():
        return float((model(rows[0]).argmax(1) == rows[1]).double().mean())


def by_advice(model: nn.Module, train: Rows, val: Rows, best: Path) -> int:
    """The best model of the arms that a scan suggests; returns how many runs that took."""
    trial = deadrelu.trial(model, train, val, seeds=SEEDS, steps=STEPS, batch_size=BATCH, save_model=best, force=True)
    return sum(len(arm.runs) for arm in trial.arms)


def by_chance(model: nn.Module, train: Rows, val: Rows, best: Path, budget: int, rng: random.Random) -> None:
    """The best model of so many configurations drawn at random; one that cannot be made is drawn again."""
    spec = DataSpec(data=train, labelling=Labelling(), batch_size=BATCH)
    highest, done = -1.0, 0
    while done < budget:
        kinds = rng.sample(list(CHANGES), rng.randint(0, 2))
        words = [rng.choice(CHANGES[kind]) for kind in kinds] or ["keep"]
        arm = parse_arms([f"drawn={'+'.join(words)}"])[-1]  # the first is keep
        setup = Setup(
            model=ModelSpec(model=model),
            train=spec,
            val=DataSpec(data=val, labelling=Labelling(), batch_size=BATCH),
            loss=LossSpec(loss="cross_entropy"),
            recipe=Recipe(steps=STEPS, lr=10 ** rng.uniform(-4, -1)),
        )
        made = best.with_suffix(".drawn")
        run = run_job(setup, Job(0, arm, done), keep=made).run
        if run.failed is None:
            done += 1
            if run.metric is not None and run.metric > highest:
                highest = run.metric
                made.replace(best)


def main() -> None:
    """Print the accuracy of both, for each network and in the median."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("| network | as it was | keep, trained on | suggested arms | random search | runs each |")
    print("|---|---|---|---|---|---|")
    ours, chance = [], []
    for name, make in SICK.items():
        found: list[tuple[float, ...]] = []
        for seed in range(repeats):
            train, val, test = divided(seed)
            torch.manual_seed(seed)
            model = make(train)
            with tempfile.TemporaryDirectory() as folder:
                best = Path(folder, "best.pt")
                torch.save(model, best)
                before = accuracy(best, test)
                deadrelu.trial(
                    model, train, val, arms="keep", seeds=1, steps=STEPS, batch_size=BATCH, save_model=best, force=True
                )
                kept = accuracy(best, test)
                budget = by_advice(model, train, val, best)
                ours.append(accuracy(best, test))
                by_chance(model, train, val, best, budget, random.Random(seed))
                chance.append(accuracy(best, test))
            found.append((before, kept, ours[-1], chance[-1], budget))
        *shares, budget = (median(column) for column in zip(*found, strict=True))
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} | {budget:.0f} |", flush=True)
    ahead = sum(a > b for a, b in zip(ours, chance, strict=True))
    behind = sum(a < b for a, b in zip(ours, chance, strict=True))
    print(f"\nMedian of all: suggested arms {median(ours):.1%}, random search {median(chance):.1%};", end=" ")
    print(f"ahead in {ahead} of {len(ours)}, behind in {behind}.")


if __name__ == "__main__":
    main()
