"""The network of `cnn_weights.pt`: one ReLU object called three times, one in place, and two functional calls."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Digits `(N, 64)` to class scores `(N, 10)`; the 64 pixels of an image are its rows, one after the other."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.branch = nn.Conv2d(width, width, 3, padding=1)
        self.merge = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()
        self.deep = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.relu_in_place = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(2 * width * 16, 64)
        self.narrow = nn.Linear(64, 32)
        self.scores = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 1, 8, 8)
        x = self.relu(self.stem(x))
        y = self.relu(self.branch(x))
        x = self.relu(self.merge(y) + x)
        x = F.max_pool2d(x, 2)
        x = self.relu_in_place(self.deep(x))
        x = F.relu(self.hidden(x.flatten(1)))
        x = self.narrow(x).clamp(min=0)
        return self.scores(x)
