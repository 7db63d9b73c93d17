"""Train models a little more on the digits, and print their held-out accuracy before and after.

    python sample_models/finetune.py MODEL... [--steps N]

Each MODEL is a whole `nn.Module` of torch.nn classes. Only torch and numpy are needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HELD_OUT = 360
"""The last rows of `digits.npz`; no sample model has seen them in training."""


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of rows whose class is right, in 0..1."""
    with torch.inference_mode():
        return (model.eval()(x).argmax(1) == y).double().mean().item()


def finetune(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    """So many steps of Adam at 0.001 on batches of 64 drawn from all rows; the same ones each time."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.train().parameters(), 1e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()


def main() -> None:
    """Fine-tune each model in memory; no file is changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = np.load(Path(__file__).parent / "digits.npz")
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    for path in options.models:
        model = torch.load(path, weights_only=False)  # our own files: for one of a stranger, see `deadrelu inspect`
        before = accuracy(model, x[-HELD_OUT:], y[-HELD_OUT:])
        finetune(model, x[:-HELD_OUT], y[:-HELD_OUT], options.steps)
        after = accuracy(model, x[-HELD_OUT:], y[-HELD_OUT:])
        print(f"{path}: {before:.1%} before, {after:.1%} after {options.steps} steps")


if __name__ == "__main__":
    main()
