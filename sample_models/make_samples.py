"""Train the sample models on scikit-learn's digits and write them, with the data, into a folder.

    python sample_models/make_samples.py [--out FOLDER] [--epochs N]

Needs scikit-learn; takes under a minute on one core. README.md here says what each file shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from model import Net
from sklearn.datasets import load_digits
from torch import Tensor, nn

HELD_OUT = 360
"""The last rows of `digits.npz`; no sample model has seen them in training."""


@dataclass(frozen=True)
class Recipe:
    """How one sample model is made."""

    file: str
    build: Callable[[], nn.Module]
    learning_rate: float
    epochs: int
    whole: bool = True


def mlp(*, normalised: bool) -> nn.Sequential:
    """Three hidden layers of 128, 128 and 64 units, with batch norm before each ReLU if `normalised`."""
    layers: list[nn.Module] = []
    width = 64
    for following in (128, 128, 64):
        layers += [nn.Linear(width, following), *([nn.BatchNorm1d(following)] if normalised else []), nn.ReLU()]
        width = following
    return nn.Sequential(*layers, nn.Linear(width, 10))


def small() -> nn.Sequential:
    """Two hidden layers of 32 units."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Sequential:
    """A convolutional network of torch.nn classes only, in which one ReLU object is called three times."""
    relu = nn.ReLU()
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        relu,
        nn.Conv2d(16, 32, 3, padding=1),
        relu,
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        relu,
        nn.Linear(64, 10),
    )


RECIPES = (
    Recipe("healthy.pt", lambda: mlp(normalised=True), learning_rate=1e-3, epochs=15),
    Recipe("dying.pt", lambda: mlp(normalised=False), learning_rate=0.1, epochs=15),
    # The same seed each time: three checkpoints of one training.
    *(Recipe(f"epoch_{n:02}.pt", small, learning_rate=0.1, epochs=n) for n in (1, 5, 15)),
    Recipe("conv.pt", cnn, learning_rate=6e-3, epochs=8),
    Recipe("cnn_weights.pt", Net, learning_rate=6e-3, epochs=8, whole=False),
)


def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 images `(N, 64)`, scaled to 0..1, and their classes `(N,)`, in one fixed shuffled order."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x = (bunch.data[order] / 16).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(bunch.target[order].astype(np.int64))


def train(recipe: Recipe, x: Tensor, y: Tensor, epochs: int | None = None) -> nn.Module:
    """Fit the recipe's model by Adam on all rows but the held-out ones; the same seed each time."""
    torch.manual_seed(0)
    model = recipe.build()
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    for _ in range(recipe.epochs if epochs is None else epochs):
        for rows in torch.randperm(len(x) - HELD_OUT).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval()


def main() -> None:
    """Write `digits.npz` and every sample model, and print the held-out accuracy of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, help="train each model for so many instead (for a quick look)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums over several threads can round differently, and the dead sets must not depend on it
    options.out.mkdir(parents=True, exist_ok=True)
    x, y = digits()
    np.savez_compressed(options.out / "digits.npz", x=x.numpy(), y=y.numpy())
    for recipe in RECIPES:
        model = train(recipe, x, y, options.epochs)
        torch.save(model if recipe.whole else model.state_dict(), options.out / recipe.file)
        with torch.inference_mode():
            right = (model(x[-HELD_OUT:]).argmax(1) == y[-HELD_OUT:]).float().mean().item()
        print(f"{recipe.file}: held-out accuracy {right:.1%}")


if __name__ == "__main__":
    main()
