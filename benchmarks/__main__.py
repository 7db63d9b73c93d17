"""`python -m benchmarks | tee benchmarks/RESULTS.md`: what a scan costs, in every respect, as Markdown."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from itertools import chain

import torch

from benchmarks import end_to_end, gradients, memory, overhead, startup
from benchmarks.networks import NETWORKS

HEADING = """# What a scan costs

Whatever is compared takes turns, so that what else the machine does falls on all alike: passes over the same batches
every few batches, whole processes one after the other. A ratio is the median over the rounds, with its quartiles in
brackets, and "plain again" shows what is noise: it is the plain pass against itself. A pass includes setting up and
the figures of every unit at its end. Peak memory is that of a process of its own for each figure, in which glibc gives
large tensors back at once. Ours counts in C here; `DEADRELU_NATIVE=0` shows what it takes without the extension.
"""


def machine(rounds: int) -> Iterator[str]:
    """What it ran on, without names."""
    yield f"- {platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    yield f"- Python {platform.python_version()}, torch {torch.__version__}"
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        yield f"- OMP_WAIT_POLICY={policy}: on a busy machine threads that wait actively slow each other"
    yield (
        f"- {torch.cuda.get_device_name()}"
        if torch.cuda.is_available()
        else "- no GPU: what a scan costs on one is not known"
    )
    yield f"- {rounds} rounds; load average at the start {os.getloadavg()[0]:.1f} (1.0 is one busy CPU)\n"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, default=5)
rounds, names = parser.parse_args().rounds, list(NETWORKS)
torch.set_num_threads(2)
print(HEADING)
for line in chain(
    machine(rounds),
    overhead.sections(rounds, names),
    gradients.sections(rounds, names),
    memory.sections(names),
    end_to_end.sections(rounds, names),
    startup.sections(rounds),
):
    print(line, flush=True)
