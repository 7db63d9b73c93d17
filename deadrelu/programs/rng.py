"""The random numbers of a run: the same each time, and as before when it is over."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Begin with this seed in torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Random numbers from seed 0: torch's on the CPU and on `device`, Python's, and NumPy's global ones.

    `torch.manual_seed` alone would tell every GPU that is not at work yet to begin with that seed, for good.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            (torch.default_generator if device.type == "cpu" else torch).manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
