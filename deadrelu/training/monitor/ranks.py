"""The processes that train one model together: what each counted adds up in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from deadrelu.training.monitor.counts import WindowCounts, add_up


def is_first_rank() -> bool:
    """Whether this process is the one that writes."""
    return not _are_several() or dist.get_rank() == 0


def of_all_ranks(samples: int, counts: Sequence[WindowCounts]) -> tuple[int, Sequence[WindowCounts]]:
    """How many samples all ranks counted together, and their counts, in each of them."""
    if not _are_several():
        return samples, counts
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (samples, list(counts)))
    return sum(samples for samples, _ in gathered), add_up(counts for _, counts in gathered)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
