"""`python -m benchmarks.gradients`: the time of a scan with a loss, to a forward and a backward pass by hand."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from benchmarks.command import show
from benchmarks.networks import NETWORKS, twin
from deadrelu.cli.process import keep_memory
from deadrelu.measure.losses import Loss
from deadrelu.measure.plan import Plan
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch


def loss(output: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy, of what the encoder gives for a whole sequence too."""
    return nn.functional.cross_entropy(output.flatten(1), labels)


def by_hand(model: nn.Module, batches: Sequence[Batch]) -> None:
    """A forward and a backward pass of each batch."""
    for batch in batches:
        model.zero_grad()
        loss(model(*batch.args), batch.labels).backward()


def scanned(model: nn.Module, batches: Sequence[Batch]) -> None:
    """A whole scan with the loss."""
    measure(EagerProgram(model), batches, Plan(), loss=Loss("cross_entropy", loss))


def sections(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """The table, line by line: medians, and in brackets the least and the most.

    Both passes use the command's allocator, unless `DEADRELU_MALLOC=0`: glibc's own gives freed gradients back to the
    system in some processes and not in others, and what it costs to get them again is up to a fifth of a pass.
    """
    keep_memory()
    yield "### Time of `--loss` as a ratio to a forward and a backward pass by hand, cpu\n"
    yield "| | by hand, ms a batch | `--loss` |"
    yield "|---|---|---|"
    torch.backends.mha.set_fastpath_enabled(False)
    for name in names:
        network = NETWORKS[name]
        model = network.model()
        other = twin(model)
        count = min(network.batches, 200) if network.batches > 100 else min(network.batches, 8)
        batches = [Batch(len(x), (x,), labels=torch.arange(len(x)) % 10) for x in network.stream(count)]
        ratios, plain = [], []
        for number in range(rounds + 1):
            took = []
            for run, on in ((by_hand, other), (scanned, model)):
                gc.collect()
                begun = time.perf_counter()
                run(on, batches)
                took.append(time.perf_counter() - begun)
            if number:  # the first one only warms up
                ratios.append(took[1] / took[0])
                plain.append(1000 * took[0] / count)
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.2f}–{max(ratios):.2f})"
        yield f"| {name} | {statistics.median(plain):.2f} | {spread} |"
    yield ""


if __name__ == "__main__":
    show(sections, str(__doc__), rounds=5)
