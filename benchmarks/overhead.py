"""What a scan costs, as a ratio to the plain forward pass: `python -m benchmarks.overhead [--rounds N] [--networks …]`.

Every contender runs right after a plain pass of its own, A B A B, over the same batches; the ratio of each pair is
taken, and the median and quartiles of those. Peak memory is that of a process of its own for each figure, in which
glibc gives large tensors back at once. Writes `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.contenders import CONTENDERS, plain
from benchmarks.networks import NETWORKS, Network

RESULTS = Path(__file__).with_name("RESULTS.md")
GROWTH = (10, 100, 1000)
NOTHING_KEPT = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Glibc gives large tensors back at once. What it would keep by chance differs by more than a scan needs."""


def ratios(network: Network, rounds: int, device: str) -> tuple[float, dict[str, list[float]]]:
    """The milliseconds of a plain batch, and for each contender the ratio of every pair."""
    torch.manual_seed(0)
    model = network.make().eval().to(device)
    batches = [x.to(device) for x in network.data()]
    torch.backends.mha.set_fastpath_enabled(False)  # as a scan does: the fused layer has no relu to watch

    def seconds(run: object) -> float:
        start = time.perf_counter()
        (plain if run is None else CONTENDERS[str(run)])(model, batches)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    plains = []
    for name in (None, *CONTENDERS):
        seconds(name)
    for _ in range(rounds):
        for name in CONTENDERS:
            before = seconds(None)
            found[name].append(seconds(name) / before)
            plains.append(before)
    return 1000 * statistics.median(plains) / len(batches), found


def peak(network: str, contender: str, batches: int) -> float:
    """The peak memory, in MiB, of a process that makes one pass over so many batches."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--peak", network, contender, str(batches)]
    done = subprocess.run(
        command,
        env={**os.environ, **NOTHING_KEPT},
        capture_output=True,
        text=True,
        check=True,
        cwd=RESULTS.parent.parent,
    )
    return float(json.loads(done.stdout))


def _peak_here(name: str, contender: str, batches: int) -> float:
    """The same, in this process. The batches are made one at a time."""
    network = NETWORKS[name]

    def stream() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(batches):
            yield torch.randn(network.shape, generator=generator)

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    model = network.make().eval()
    (plain if contender == "plain" else CONTENDERS[contender])(model, stream())
    # Not ru_maxrss: a process that was forked from a large one inherits that figure.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def times(names: list[str], rounds: int, device: str) -> Iterator[str]:
    """The table of time: median, and in brackets the quartiles."""
    yield f"| {device} | plain, ms a batch | " + " | ".join(CONTENDERS) + " |"
    yield "|---" * (len(CONTENDERS) + 2) + "|"
    for name in names:
        batch, found = ratios(NETWORKS[name], rounds, device)
        cells = []
        for values in found.values():
            low, _, high = statistics.quantiles(values, n=4, method="inclusive")
            cells.append(f"{statistics.median(values):.2f} ({low:.2f}–{high:.2f})")
        yield f"| {name} | {batch:.2f} | " + " | ".join(cells) + " |"


def memory(names: list[str]) -> Iterator[str]:
    """The table of peak memory, as MiB above that of a plain pass."""
    shown = ["ours, fired", "ours, full", "naive", "store all"]
    yield "| 10 batches | plain, MiB | " + " | ".join(shown) + " |"
    yield "|---" * (len(shown) + 2) + "|"
    for name in names:
        base = statistics.median(peak(name, "plain", 10) for _ in range(2))
        above = [statistics.median(peak(name, contender, 10) for _ in range(2)) - base for contender in shown]
        yield f"| {name} | {base:.0f} | " + " | ".join(f"{mib:+.0f} ({mib / base:+.1%})" for mib in above) + " |"


def growth() -> Iterator[str]:
    """Peak memory by the number of batches."""
    shown = ["plain", "ours, full", "store all"]
    yield "| tiny MLP, MiB | " + " | ".join(f"{count:,} batches" for count in GROWTH) + " |"
    yield "|---" * (len(GROWTH) + 1) + "|"
    for contender in shown:
        peaks = [peak("tiny MLP", contender, count) for count in GROWTH]
        yield f"| {contender} | " + " | ".join(f"{mib:.0f}" for mib in peaks) + " |"


def machine(rounds: int) -> Iterator[str]:
    """What it ran on, without names."""
    yield f"- {platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    yield f"- Python {platform.python_version()}, torch {torch.__version__}"
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        yield f"- OMP_WAIT_POLICY={policy}: on a busy machine threads that wait actively slow each other"
    if torch.cuda.is_available():
        yield f"- {torch.cuda.get_device_name()}"
    yield f"- {rounds} rounds; load average at the start {os.getloadavg()[0]:.1f} (1.0 is one busy CPU)"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak:
        print(json.dumps(_peak_here(asked.peak[0], asked.peak[1], int(asked.peak[2]))))
        return
    lines = ["# What a scan costs", "", *(__doc__ or "").split("\n\n")[1].strip().splitlines(), ""]
    lines += [*machine(asked.rounds), "", "## Time, as a ratio to the plain pass", ""]
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    sections = [times(asked.networks, asked.rounds, device) for device in devices]
    titles = [""] * len(sections)
    sections += [memory(asked.networks), growth()]
    titles += ["## Peak memory above the plain pass", "## Growth with the number of batches"]
    for title, section in zip(titles, sections, strict=True):
        if title:
            lines += ["", title, ""]
        for line in section:
            print(line, flush=True)
            lines.append(line)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
