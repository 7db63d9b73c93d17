"""`python -m benchmarks.overhead`: the time of a scan, and of what else watches activations, to the plain pass."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from benchmarks.command import show
from benchmarks.contenders import CONTENDERS, Pass, plain, store_all
from benchmarks.networks import NETWORKS, Network, turns, twin


def clock() -> float:
    """Seconds, when everything that was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(run: Pass, model: nn.Module, other: nn.Module, batches: Sequence[Tensor]) -> tuple[float, float]:
    """Seconds of a plain pass of `other`, and of the pass `run` of `model`, by turns: A B B A, and so on.

    What keeps all activations would slow down the plain pass beside it, which therefore comes first as a whole.
    """
    mine = [batches] if run is store_all else turns(batches)
    middle = len(mine) // 2
    theirs = [*mine[middle:], *mine[:middle]]  # so that no turn finds its input in the cache where the other left it
    plainly = 0.0

    def plain_turn(number: int) -> None:
        nonlocal plainly
        begun = clock()
        plain(other, theirs[number])
        plainly += clock() - begun

    def data() -> Iterator[Tensor]:
        for number, turn in enumerate(mine):
            if number % 2 == 0:
                plain_turn(number)
            yield from turn
            if number % 2 == 1:
                plain_turn(number)

    gc.collect()  # a collection takes as long as two batches: what was left behind before is not this pass's to pay for
    begun = clock()
    run(model, data())
    return plainly, clock() - begun - plainly


def ratios(network: Network, rounds: int, device: str) -> tuple[float, dict[str, list[float]]]:
    """The milliseconds of a plain batch, and for each contender the ratio of each round."""
    model = network.model().to(device)
    other = twin(model)
    batches = [x.to(device) for x in network.data()]
    torch.backends.mha.set_fastpath_enabled(False)  # as a scan does: the fused layer has no relu to watch
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    plains = []
    order, dice = list(CONTENDERS), random.Random(0)
    for number in range(rounds + 1):
        for name in order:
            plainly, took = in_turns(CONTENDERS[name], model, other, batches)
            if number:  # the first one only warms up
                found[name].append(took / plainly)
                plains.append(plainly)
        dice.shuffle(order)  # so that none always comes after the same
    return 1000 * statistics.median(plains) / len(batches), found


def sections(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """The table of time for each device, line by line: medians, and in brackets the quartiles."""
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        yield f"### Time as a ratio to the plain pass, {device}\n"
        yield "| | plain, ms a batch | " + " | ".join(CONTENDERS).replace("plain", "plain again") + " |"
        yield "|---" * (len(CONTENDERS) + 2) + "|"
        for name in names:
            batch, found = ratios(NETWORKS[name], rounds, device)
            cells = []
            for values in found.values():
                low, _, high = statistics.quantiles(values, n=4, method="inclusive")
                cells.append(f"{statistics.median(values):.3f} ({low:.2f}–{high:.2f})")
            yield f"| {name} | {batch:.2f} | " + " | ".join(cells) + " |"
        yield ""


if __name__ == "__main__":
    show(sections, str(__doc__), rounds=7)
