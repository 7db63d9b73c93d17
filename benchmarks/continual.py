"""`python -m benchmarks.continual`: does restarting dead units help a network that learns one task after another?

Permuted digits, as the permuted MNIST of Dohare et al. 2024: each task shuffles the pixels in its own way. A network is
trained on ten tasks in a row by Adam, with dead units restarted now and then, or not; with what the optimizer remembers
of their weights kept, zeroed as ReDo does (Sokar et al. 2023), or set to the mean of live units. Each seed has the same
tasks, weights and batches in all of them, so differences are paired.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

import deadrelu

WAYS = {
    "no restart": None,
    "moments kept": "keep",
    "moments zeroed (ReDo)": "zero",
    "live mean (default)": "live mean",
}
TASKS, STEPS, BATCH, EVERY, TRAINED = 10, 400, 64, 100, 1437


def network() -> nn.Sequential:
    """Three hidden layers."""
    sizes = (64, 128, 128, 64)
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(64, 10))


def run(moments: str | None, seed: int, lr: float) -> tuple[list[float], list[float]]:
    """Accuracy on held-out samples and share of dead units, after each task."""
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    x, y = x[order], y[order]
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr)
    chance = torch.Generator().manual_seed(seed)
    accuracy, dead = [], []
    for _ in range(TASKS):
        seen = x[:, torch.randperm(64, generator=chance)]
        for step in range(1, STEPS + 1):
            rows = torch.randint(TRAINED, (BATCH,), generator=chance)
            optimizer.zero_grad()
            F.cross_entropy(model(seen[rows]), y[rows]).backward()
            optimizer.step()
            if moments is not None and step % EVERY == 0 and step < STEPS:
                deadrelu.recycle(model, optimizer, seen[:TRAINED], moments=moments, draw=step)  # type: ignore[arg-type]
        accuracy.append(_accuracy(model, seen[TRAINED:], y[TRAINED:]))
        report = deadrelu.scan(model, seen[:TRAINED])
        dead.append(report.summary.dead_fraction)
    return accuracy, dead


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((model(x).argmax(1) == y).float().mean())


def main() -> None:
    """Print a table in Markdown: means over the seeds, and the paired difference to no restart."""
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.003, 0.01])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| lr | dead units | accuracy, mean of 10 tasks | of the last task | difference (95% interval) | dead at last |"
    )
    print("|---|---|---|---|---|---|")
    for lr in asked.lr:
        base: list[float] = []
        for name, moments in WAYS.items():
            found = [run(moments, seed, lr) for seed in range(asked.seeds)]
            means = [mean(accuracy) for accuracy, _ in found]
            last = mean(accuracy[-1] for accuracy, _ in found)
            dead = mean(shares[-1] for _, shares in found)
            differs = "–"
            if base:
                differences = np.subtract(means, base) * 100
                half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(differences)
                differs = (
                    f"{differences.mean():+.1f} ({differences.mean() - half:+.1f} to {differences.mean() + half:+.1f})"
                )
            base = base or means
            print(f"| {lr} | {name} | {mean(means):.1%} | {last:.1%} | {differs} | {dead:.0%} |", flush=True)


if __name__ == "__main__":
    main()
