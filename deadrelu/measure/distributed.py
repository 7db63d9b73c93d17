"""One scan by several processes of torch.distributed: each counts whole batches, and all of them get the sum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from deadrelu.errors import DataError, DeadreluError
from deadrelu.measure.measurement import Measurement, merge_measurements
from deadrelu.programs.program import Batch
from deadrelu.programs.shard import Shard


class Ranks:
    """The processes of the default group, which the caller has initialised and ends. All must make the same calls.

    Counts and maxima come out as in one process to the last bit. Sums of activations are added in the order of the
    ranks, so that two runs agree to the last bit, and with one process up to rounding.
    """

    def __init__(self) -> None:
        """Join the others."""
        self.shard = Shard(dist.get_rank(), dist.get_world_size())
        self._fingerprint = ""

    def fingerprint_first(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches. The first one is noted, so that `merge` can tell whether all processes see the same data."""
        self._fingerprint = ""
        for batch in batches:
            self._fingerprint = self._fingerprint or fingerprint(batch)
            yield batch

    def merge(self, mine: Measurement) -> Measurement:
        """The measurement of the whole data, in every process. Raises `DataError` where they do not see the same data.

        Raises `DeadreluError` where a process does not come, or is gone.
        """
        gathered = [(self._fingerprint, mine)] * self.shard.world_size
        try:
            dist.all_gather_object(gathered, (self._fingerprint, mine))
        except RuntimeError as error:  # a timeout, or a connection that was closed
            raise DeadreluError(
                f"the ranks lost each other: {_first_sentence(error)}",
                hint="a rank died or hangs: look at the launcher's report, and at DEADRELU_RANK_TIMEOUT",
            ) from error
        for rank, (other, _) in enumerate(gathered):
            if other != gathered[0][0]:
                raise DataError(
                    f"rank {rank} does not see the same data as rank 0: its first batch is another one",
                    hint="give every rank the whole data in one order"
                    " (no DistributedSampler, shuffle=False, or a --seed)",
                )
        return merge_measurements([measurement for _, measurement in gathered])


def fingerprint(batch: Batch) -> str:
    """A digest of a batch: processes with the same data get the same one."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
            digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, str):
            digest.update(value.encode())
        elif isinstance(value, dict):
            add(list(value.items()))
        elif isinstance(value, (list, tuple)):
            for inner in value:
                add(inner)

    add([batch.samples, batch.args, dict(batch.kwargs)])
    return digest.hexdigest()


def _first_sentence(error: RuntimeError) -> str:
    """The first sentence of an error of gloo or nccl, without the place in its source."""
    return re.sub(r"^\[[^]]*\] ", "", str(error)).partition(". ")[0]
