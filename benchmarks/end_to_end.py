"""`python -m benchmarks.end_to_end`: whole commands against hand-written scripts that only run the model.

First from process start to exit over 50,000 samples; then the pass alone, with the allocator as the command tunes it
against a plain pass with the allocator as it is, in two processes by turns, each warmed up by a first batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.interleaved import Process, interleaved, table
from benchmarks.lockstep import in_turns
from benchmarks.networks import NETWORKS

ROOT = Path(__file__).parents[1]
SAMPLES = 50_000
HAND_WRITTEN = """
import sys
import numpy as np
import torch

model = torch.load(sys.argv[1], weights_only=False).eval()
data = torch.from_numpy(np.load(sys.argv[2])["x"])
with torch.inference_mode():
    for batch in data.split(64):
        model(batch)
"""

EARLY = """
import sys, time
import numpy as np
import torch
import deadrelu

model = torch.load(sys.argv[1], weights_only=False).eval()
data = torch.from_numpy(np.load(sys.argv[2])["x"])
with torch.inference_mode():
    model(data[:64])
deadrelu.scan(model, data[:64])
begun = time.perf_counter()
if sys.argv[3] == "plain":
    with torch.inference_mode():
        for batch in data.split(64):
            model(batch)
else:
    policy = deadrelu.Policy(max_dead=0.05)
    report = deadrelu.scan(model, data, until="verdict", policy=policy)
    assert report.verdict == "pass" and report.data.samples < len(data), report.data
    print(report.data.samples, "samples")
print(time.perf_counter() - begun)
"""


def sample(name: str, folder: Path) -> tuple[str, str]:
    """A sample model, and digits tiled to 50,000 samples."""
    digits = np.load(ROOT / "sample_models" / "digits.npz")["x"]
    np.savez(folder / "tiled.npz", x=np.resize(digits, (SAMPLES, *digits.shape[1:])))
    return str(ROOT / "sample_models" / name), str(folder / "tiled.npz")


def early(rounds: int, folder: Path) -> str:
    """A scan that stops when no limit of 5 % can be exceeded, against the plain pass over all of the data."""
    files = sample("healthy.pt", folder)
    plain = "plain pass over all samples"
    processes = {
        what: Process([sys.executable, "-c", EARLY, *files, how], printed=True)
        for what, how in {plain: "plain", "scan until the verdict is clear": "until"}.items()
    }
    return table(interleaved(processes, rounds), plain)


def whole(rounds: int, folder: Path) -> str:
    """The command against the script, over digits tiled to 50,000 samples."""
    model, data = sample("conv.pt", folder)
    script = folder / "by_hand.py"
    script.write_text(HAND_WRITTEN)
    scan = [sys.executable, "-m", "deadrelu", "scan", model, "--data", data, "--quiet"]
    by_hand = "a script that loads the model and runs it"
    processes = {
        by_hand: Process([sys.executable, str(script), model, data]),
        "`deadrelu scan`": Process(scan),
        "`deadrelu scan`, `DEADRELU_MALLOC=0`": Process(scan, {"DEADRELU_MALLOC": "0"}),
    }
    return table(interleaved(processes, rounds), by_hand)


def passes(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """For each network the scan in the command's process against the plain pass in any, line by line."""
    yield "| | plain pass | scan by the command | ratio | ratio of processor time |"
    yield "|---|---|---|---|---|"
    for name in names:
        pairs = [in_turns(("plain", name), ("scan", name)) for _ in range(rounds)]
        clocks = [scan.seconds / plain.seconds for plain, scan in pairs]
        low, middle, high = statistics.quantiles(clocks, n=4, method="inclusive")
        work = statistics.median(scan.processor / plain.processor for plain, scan in pairs)
        seconds = " | ".join(
            f"{statistics.median(took.seconds for took in side):.3f} s" for side in zip(*pairs, strict=True)
        )
        yield f"| {name} | {seconds} | {middle:.3f} ({low:.2f}–{high:.2f}) | {work:.2f} |"


def sections(rounds: int, names: Sequence[str]) -> Iterator[str]:
    """The tables under their headings, part by part."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"### From process start to exit, {SAMPLES:,} samples through the CNN sample\n"
        yield whole(rounds, Path(folder))
        yield f"\n### A healthy model with `--until-verdict --max-dead 5%`, {SAMPLES:,} samples\n"
        yield early(rounds, Path(folder))
    yield "\n### The pass alone: the command's allocator against a plain pass without\n"
    yield from passes(rounds, names)
    yield ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    chosen = parser.parse_args()
    for part in sections(chosen.rounds, chosen.networks):
        print(part, flush=True)
