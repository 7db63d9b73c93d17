"""One of two processes that make a pass in turns (see `benchmarks.lockstep`): `python -m benchmarks.side scan NAME`.

A third argument is the number of batches. Prints how many lines will follow, and then the seconds of each turn, by the
clock and of processor time; waits for a line before each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator

from deadrelu.cli import process

if sys.argv[1] == "scan":
    process.own()  # as the command does: the allocator is tuned
with process.importing():
    import torch

import deadrelu
from benchmarks.contenders import plain
from benchmarks.networks import NETWORKS, turns

SAID = sys.stdout
"""A scan gives its standard output away, since the data or the model might print."""


class Turns:
    """The batches of a pass in turns: another process says when each begins, and this one when it ends."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        """Say how often the end of something will be told: of what comes before the first turn, and of each turn."""
        self.turns = turns(batches)
        print(len(self.turns) + 1, file=SAID, flush=True)
        self.wait()

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Each batch, when it is due."""
        for turn in self.turns:
            self.end()
            self.wait()
            yield from turn

    def wait(self) -> None:
        """Wait for the next turn, and begin it."""
        sys.stdin.readline()
        self.begun, self.worked = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Say what the turn took."""
        print(time.perf_counter() - self.begun, time.process_time() - self.worked, file=SAID, flush=True)


def run(model: torch.nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """A pass, plain or scanned."""
    if sys.argv[1] == "scan":
        deadrelu.scan(model, batches)
    else:
        plain(model, batches)


torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
torch.backends.mha.set_fastpath_enabled(False)  # the fused layer has no relu to watch
network = NETWORKS[sys.argv[2]]
model = network.model()
batches = list(network.stream(int(sys.argv[3]))) if sys.argv[3:] else network.data()
run(model, iter(batches[:1]))
own = Turns(batches)
run(model, own)
own.end()
own.wait()  # leaving takes a while, which would fall on the other
