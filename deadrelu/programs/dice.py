"""The random numbers of a run: the same each time, and as before when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Random numbers from seed 0, on the CPU and on `device`.

    `torch.manual_seed` alone would tell every GPU that is not at work yet to begin with that seed, for good.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        (torch.default_generator if device.type == "cpu" else torch).manual_seed(0)
        yield
