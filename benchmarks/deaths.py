"""`python -m benchmarks.deaths`: are deaths that are reported in training true, and do restarted units live on?

The first table: 18 runs on digits are watched, and each unit that is reported dead is looked at on all samples. The
second: units that are dead after 800 steps are restarted, with each of the memories that an optimizer may keep of them,
and looked at again 400 steps later.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

import deadrelu
from deadrelu.report.run import Event

RUNS, STEPS, BATCH = 6, 1000, 64


def digits() -> tuple[Tensor, Tensor]:
    """Images `(1797, 64)` in 0..1, and labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def network(*sizes: int) -> nn.Sequential:
    """Hidden layers of these sizes, from 64 pixels to ten classes."""
    hidden = [layer for a, b in pairwise((64, *sizes)) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 10))


def train(
    model: nn.Module, optimizer: Optimizer, steps: int, seed: int, after: Callable[[], object] = lambda: None
) -> None:
    """So many steps on batches drawn by the seed."""
    x, y = digits()
    chance = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), generator=chance)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        after()


def reported(seed: int, lr: float, every: int) -> list[float]:
    """On which share of all samples each unit fires at the moment at which it is reported dead."""
    torch.manual_seed(seed)
    model, (x, _) = network(64, 32), digits()
    rates: list[float] = []

    def look(event: Event) -> None:
        if event.kind == "died":
            with torch.no_grad():
                h = model[: int(event.site or 0) + 1](x)
            rates.append(float((h[:, event.unit] > 0).float().mean()))

    with deadrelu.watch(model, every=every, on_event=look) as monitor:
        train(model, Adam(model.parameters(), lr), STEPS, seed, monitor.step)
    return rates


def died_again(moments: str) -> tuple[int, int]:
    """How many units were restarted, and how many of them are dead again later."""
    x, _ = digits()
    restarted = again = 0
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model = network(128, 128, 64)
        optimizer = Adam(model.parameters(), 0.01)
        train(model, optimizer, 800, seed)
        found = deadrelu.recycle(model, optimizer, x, moments=moments, draw=99)  # type: ignore[arg-type]
        train(model, optimizer, 400, 1000 + seed)
        dead = {s.site.id: set(s.dead_units) for s in deadrelu.scan(model, x).sites}
        restarted += sum(len(each.units) for each in found.values())
        again += sum(len(dead[id] & set(each.units)) for id, each in found.items())
    return restarted, again


def main() -> None:
    """Print both tables in Markdown."""
    torch.set_num_threads(1)
    print("| learning rate | every | reported dead | fire on some sample | at most on |\n|---|---|---|---|---|")
    for lr, every in ((1e-3, 1), (1e-2, 1), (3e-3, 10)):
        rates = [rate for seed in range(RUNS) for rate in reported(seed, lr, every)]
        fire = sum(rate > 0 for rate in rates)
        print(f"| {lr:g} | {every} | {len(rates)} | {fire} | {max(rates):.1%} |", flush=True)
    print("\n| moments | restarted | dead again |\n|---|---|---|")
    for moments in ("live mean", "keep", "zero"):
        restarted, again = died_again(moments)
        print(f"| {moments} | {restarted} | {again / restarted:.0%} |", flush=True)


if __name__ == "__main__":
    main()
