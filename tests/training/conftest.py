"""What the tests of trials share: the sample models, digits, and a trial that takes a second."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deadrelu.data.spec import DataSpec, Labelling, LossSpec
from deadrelu.load.spec import ModelSpec
from deadrelu.training.trial.job import Setup
from deadrelu.training.trial.recipe import Recipe

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS, DYING, HEALTHY = (str(SAMPLES / name) for name in ("digits.npz", "dying.pt", "healthy.pt"))


def digits(rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Images `(N, 64)` and labels."""
    arrays = np.load(DIGITS)
    return torch.from_numpy(arrays["x"][rows]), torch.from_numpy(arrays["y"][rows])


def sick_model() -> nn.Sequential:
    """Three planted dead units of sixteen; live elsewhere."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with torch.no_grad():
        model[0].bias[3:6] = -1e3
    return model


def setup_of(model: Any = DYING, data: Any = DIGITS, **changed: Any) -> Setup:
    """A trial of few steps."""
    fields: dict[str, Any] = {
        "model": ModelSpec(model=model),
        "train": DataSpec(data=data, labelling=Labelling()),
        "val": None,
        "loss": LossSpec(loss="cross_entropy"),
        "recipe": Recipe(steps=20),
    }
    return Setup(**{**fields, **changed})


def without_times(trial: Any) -> dict[str, Any]:
    """The JSON of a trial but for what depends on how fast the machine was."""
    found = copy.deepcopy(trial.to_dict() if hasattr(trial, "to_dict") else trial)
    found.pop("seconds")
    for arm in found["arms"]:
        for run in arm["runs"]:
            del run["seconds"], run["seconds_to_target"]
    return found


@pytest.fixture
def model() -> nn.Sequential:
    """A model with three dead units."""
    return sick_model()
