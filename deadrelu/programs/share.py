"""Which batches one of several processes runs: whole ones, in turn, so that each batch is as in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The batches `rank`, `rank + of`, …, counted from 0; and the very first, which every process looks at.

    On the first batch each program finds out what the calls of a model are made of, so that all know the same sites.
    Who is not rank 0 does not count it.
    """

    rank: int = 0
    of: int = 1

    def takes(self, index: int) -> bool:
        """Whether batch `index` is made here."""
        return index == 0 or self.counts(index)

    def counts(self, index: int) -> bool:
        """Whether batch `index` is counted here."""
        return index % self.of == self.rank

    def of_all(self, batches: Iterable[T]) -> Iterator[T]:
        """Of all the batches those that are made here, where the others have to be made first."""
        return (batch for index, batch in enumerate(batches) if self.takes(index))

    def indices(self) -> Iterator[int]:
        """The numbers of the batches that are made here, in order."""
        return (index for index in count() if self.takes(index))


WHOLE = Share()
"""All batches: one process alone."""
