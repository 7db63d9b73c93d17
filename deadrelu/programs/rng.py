"""Seeds the RNGs for a run, and restores them after it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def seeded(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Seed torch's RNGs on the CPU and on `device`, Python's, and NumPy's global one; restore them on leaving.

    `torch.manual_seed` alone would also seed, for good, every GPU that is not initialised yet.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            (torch.default_generator if device.type == "cpu" else torch).manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class OwnRandomness:
    """Random numbers of its own for a part of the work: what is drawn inside does not depend on what others draw.

    Enter it again and again; each time it goes on where it stopped. Only the CPU's generators are kept.
    """

    def __init__(self, seed: int) -> None:
        """Begin with this seed."""
        with seeded(torch.device("cpu"), seed):
            self._mine = self._state()

    def __enter__(self) -> None:
        """Take the place of the generators' state."""
        self._others = self._state()
        self._set(self._mine)

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._mine = self._state()
        self._set(self._others)

    @staticmethod
    def _state() -> tuple[Any, ...]:
        return torch.get_rng_state(), random.getstate(), np.random.get_state()

    @staticmethod
    def _set(state: tuple[Any, ...]) -> None:
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])
