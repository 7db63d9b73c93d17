"""Seeds the RNGs for a run, and restores them after it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Seed torch's RNGs on the CPU and on `device`, Python's, and NumPy's global one with 0; restore them on leaving.

    `torch.manual_seed` alone would also seed, for good, every GPU that is not initialised yet.
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
