"""`python -m benchmarks.end_to_end`: whole commands against hand-written scripts that only run the model.

First from process start to exit over 50,000 samples; then the pass alone, with the allocator as the command tunes it
against a plain pass with the allocator as it is, each after a first batch that warms its process up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.interleaved import Process, interleaved, table
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

PLAIN = """
import sys, time
import torch
from benchmarks.networks import NETWORKS
network = NETWORKS[sys.argv[1]]
torch.manual_seed(0)
model, data = network.make().eval(), network.data()
with torch.inference_mode():
    model(data[0])
    begun = time.perf_counter()
    for batch in data:
        model(batch)
print(time.perf_counter() - begun)
"""

SCAN = """
import sys, time
from deadrelu.cli import process
process.own()
with process.importing():
    import torch
import deadrelu
from benchmarks.networks import NETWORKS
network = NETWORKS[sys.argv[1]]
torch.manual_seed(0)
model, data = network.make().eval(), network.data()
deadrelu.scan(model, data[:1])
begun = time.perf_counter()
deadrelu.scan(model, iter(data))
print(time.perf_counter() - begun)
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


def passes(rounds: int, names: list[str]) -> str:
    """For each network the scan in the command's process against the plain pass in any."""
    parts = []
    for name in names:
        plain = f"{name}: plain pass"
        words = {plain: PLAIN, f"{name}: scan": SCAN}
        processes = {
            what: Process([sys.executable, "-c", program, name], printed=True) for what, program in words.items()
        }
        parts.append(table(interleaved(processes, rounds), plain))
    header, rule = parts[0].split("\n")[:2]
    return "\n".join([header, rule, *(line for part in parts for line in part.split("\n")[2:])])


def sections(rounds: int, names: list[str]) -> str:
    """The tables under their headings."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = whole(rounds, Path(folder)), early(rounds, Path(folder))
    return "\n\n".join(
        (
            f"### From process start to exit, {SAMPLES:,} samples through the CNN sample",
            first,
            f"### A healthy model with `--until-verdict --max-dead 5%`, {SAMPLES:,} samples",
            second,
            "### The pass alone: the command's allocator against a plain pass without",
            passes(rounds, names),
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="repeatable; all of them by default")
    chosen = parser.parse_args()
    sys.stdout.write(sections(chosen.rounds, chosen.network or list(NETWORKS)) + "\n")
