"""The batches that one of several processes runs: whole ones, in turn, so that each batch is as in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Shard:
    """The batches `rank`, `rank + world_size`, …, counted from 0; and the very first, which every process runs.

    A program learns from its first batch how the calls of a model are connected, so that all ranks know the same sites.
    Only rank 0 counts that batch.
    """

    rank: int = 0
    world_size: int = 1

    def runs(self, index: int) -> bool:
        """Whether batch `index` is made and run here."""
        return index == 0 or self.owns(index)

    def owns(self, index: int) -> bool:
        """Whether batch `index` is counted here."""
        return index % self.world_size == self.rank

    def select(self, batches: Iterable[_T]) -> Iterator[_T]:
        """The batches that run here, out of all of them; for data that is made in sequence."""
        return (batch for index, batch in enumerate(batches) if self.runs(index))

    def indices(self) -> Iterator[int]:
        """The numbers of the batches that run here, in order."""
        return (index for index in count() if self.runs(index))


UNSHARDED = Shard()
"""All batches: one process alone."""
