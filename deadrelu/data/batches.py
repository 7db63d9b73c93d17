"""A stream of batches that knows where it comes from, and what is said about it once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from deadrelu.programs.program import Batch
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.report import DataInfo

_log = logging.getLogger("deadrelu")


@dataclass(frozen=True)
class Batches:
    """Batches made one by one when asked for; each iteration starts again from the first.

    `info` says where they come from. Its `samples` and `batches` are 0: who runs the batches counts them. `shard` says
    which of them are made here; `start` skips the others before any work on them, as far as the data lets it.

    `is_fixed`: the same samples in the same order each time, as of a file. `dataset` is a map-style Dataset behind it.
    """

    info: DataInfo
    start: Callable[[Shard], Iterator[Batch]]
    shard: Shard = UNSHARDED
    is_fixed: bool = False
    dataset: Any = None

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the shard, from the first. Raises `DataError` where one cannot be made."""
        return self.start(self.shard)

    @classmethod
    def held(cls, batches: Sequence[Batch], info: DataInfo) -> Batches:
        """Batches that are made already."""
        return cls(info=info, start=lambda shard: shard.select(batches), is_fixed=True)

    def of(self, shard: Shard) -> Batches:
        """The same data, of which only a shard is made here."""
        return replace(self, shard=shard)


class Notes:
    """Notes to the user, each said once however many batches give rise to it."""

    def __init__(self, *, silent: bool = False) -> None:
        """Nothing said yet; `silent` ones are for a trial."""
        self._said: set[str] = set()
        self._silent = silent

    def say(self, text: str) -> None:
        """Log `text` unless it was said before."""
        if text not in self._said and not self._silent:
            self._said.add(text)
            _log.info(text)


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a nest, or None."""
    return next(tensor_leaves(value), None)
