"""`python -m benchmarks.memory`: the peak memory of a scan, and of what else watches activations.

Each figure is that of a process of its own, in which glibc gives large tensors back at once: what it would keep by
chance differs by more than a scan needs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.networks import NETWORKS

GROWTH = (10, 100, 1000)
NOTHING_KEPT = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


def peak(network: str, contender: str, batches: int) -> float:
    """The peak memory, in MiB, of a process that makes one pass over so many batches."""
    command = [sys.executable, "-m", "benchmarks.memory", "--of", network, contender, str(batches)]
    environment = {**os.environ, **NOTHING_KEPT}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    return float(done.stdout)


def peak_here(network: str, contender: str, batches: int) -> float:
    """The same, in this process. The batches are made one at a time."""
    torch.set_num_threads(2)
    torch.backends.mha.set_fastpath_enabled(False)
    CONTENDERS[contender](NETWORKS[network].model(), NETWORKS[network].stream(batches))
    # Not ru_maxrss: a process that was forked from a large one inherits that figure.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def sections(names: Sequence[str]) -> Iterator[str]:
    """Peak memory by network, as MiB above that of a plain pass, and by the number of batches; line by line."""
    shown = ["ours, fired", "ours, full", "naive", "store all"]
    yield "### Peak memory above the plain pass\n"
    yield "| 10 batches | plain, MiB | " + " | ".join(shown) + " |"
    yield "|---" * (len(shown) + 2) + "|"
    for name in names:
        base = statistics.median(peak(name, "plain", 10) for _ in range(3))
        above = [statistics.median(peak(name, contender, 10) for _ in range(3)) - base for contender in shown]
        yield f"| {name} | {base:.0f} | " + " | ".join(f"{mib:+.0f} ({mib / base:+.1%})" for mib in above) + " |"
    yield "\n### Growth with the number of batches\n"
    yield "| tiny MLP, MiB | " + " | ".join(f"{count:,} batches" for count in GROWTH) + " |"
    yield "|---" * (len(GROWTH) + 1) + "|"
    for contender in ("plain", "ours, full", "store all"):
        peaks = [peak("tiny MLP", contender, count) for count in GROWTH]
        yield f"| {contender} | " + " | ".join(f"{mib:.0f}" for mib in peaks) + " |"
    yield ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--of", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.of:
        print(peak_here(asked.of[0], asked.of[1], int(asked.of[2])))
    else:
        for line in sections(asked.networks):
            print(line, flush=True)
