"""A small model whose dead units are planted, and data that wakes all the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

WIDTH = 16


def save_model(path: Path, dead: Sequence[int]) -> Path:
    """A linear layer of 16 units whose `dead` ones have a bias that nothing lifts, then a ReLU; saved whole."""
    model = nn.Sequential(nn.Linear(4, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    with torch.no_grad():
        first: nn.Linear = model[0]
        first.weight.copy_(torch.linspace(-1, 1, WIDTH * 4).reshape(WIDTH, 4))
        first.bias.fill_(0.0)
        first.bias[list(dead)] = -1000.0
    torch.save(model, path)
    return path


def save_data(path: Path, samples: int = 400, seed: int = 0) -> Path:
    """Standard normal inputs `(samples, 4)`."""
    np.savez(path, x=np.random.default_rng(seed).standard_normal((samples, 4), dtype=np.float32))
    return path
