"""The fuzzer of the test suite, run longer: `python benchmarks/fuzz.py --cases 20000`.

`--only report --only baseline` breaks reports and baselines alone.

Each worker is a process of its own, so that a crash of one costs one case and is told. The figures go to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from tests.fuzz.corpus import build
from tests.fuzz.trial import Bench, Outcome

_ADDRESS_SPACE = 6 << 30
_DEADLY = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL)


def main() -> int:
    """Run the cases, print the figures; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--key", default="", help="another text, other cases under the same numbers")
    parser.add_argument("--only", action="append", help="this format alone (report, baseline, npz, …); repeatable")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds = [seed for seed in build(Path(folder)) if not options.only or seed.name in options.only]
        pipes = []
        for worker in range(options.workers):
            numbers = list(range(options.first + worker, options.first + options.cases, options.workers))
            pipes.append(_start(Path(folder), seeds, numbers, options.key, worker))
        outcomes = [outcome for pipe in pipes for outcome in _collect(pipe)]
    _print(outcomes, time.monotonic() - start)
    return int(any(outcome.broken for outcome in outcomes) or len(outcomes) != options.cases)


def _start(folder: Path, seeds: list, numbers: list[int], key: str, worker: int) -> int:
    """A supervisor process, which gives its worker's cases to fresh children until all are done."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        left = numbers
        while left:
            left = _child(folder, seeds, left, key, worker, writing)
        os._exit(0)
    os.close(writing)
    return reading


def _child(folder: Path, seeds: list, numbers: list[int], key: str, worker: int, writing: int) -> list[int]:
    """Run the cases in a child that tells of each before and after; those that are left if it dies."""
    reading, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _quiet()
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        place = folder / f"worker-{worker}"
        place.mkdir(exist_ok=True)
        bench = Bench(seeds, place)
        with os.fdopen(telling, "w") as out:
            for number in numbers:
                print(json.dumps(number), file=out, flush=True)
                print(json.dumps(vars(bench.case(number, key=key))), file=out, flush=True)
        os._exit(0)
    os.close(telling)
    began, done = None, 0
    with os.fdopen(reading) as lines:
        for line in lines:
            told = json.loads(line)
            if isinstance(told, int):
                began = told
            else:
                done += 1
                os.write(writing, line.encode())
    status = os.waitpid(child, 0)[1]
    if done == len(numbers):
        return []
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    crashed = Outcome(began if began is not None else numbers[done], "?", "?", "CRASH", 0.0, 0, name)
    os.write(writing, (json.dumps(vars(crashed)) + "\n").encode())
    return numbers[done + 1 :]


def _quiet() -> None:
    """Send what C++ prints on its way down to nowhere, and let the crash be a crash."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    for number in _DEADLY[:-1]:
        signal.signal(number, signal.SIG_DFL)


def _collect(pipe: int) -> list[Outcome]:
    with os.fdopen(pipe) as lines:
        return [Outcome(**json.loads(line)) for line in lines]


def _print(outcomes: list[Outcome], seconds: float) -> None:
    """The figures by format, and every broken promise."""
    print(f"{len(outcomes)} cases in {seconds:.0f} s, {len(outcomes) / seconds:.0f} a second")
    print(f"{'format':24}{'cases':>7}{'refused':>9}{'read':>7}{'altered':>9}{'broken':>8}{'slowest':>9}{'memory':>9}")
    for name in sorted({outcome.seed for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if outcome.seed == name]
        counts = Counter(outcome.verdict for outcome in mine)
        broken = sum(outcome.broken for outcome in mine)
        slowest, memory = max(o.seconds for o in mine), max(o.memory for o in mine) / 2**20
        told = f"{len(mine):7}{counts['refused']:9}{counts['read']:7}{counts['altered']:9}{broken:8}"
        print(f"{name:24}{told}{slowest:7.2f} s{memory:5.0f} MiB")
    for outcome in outcomes:
        if outcome.broken:
            print(f"\ncase {outcome.case}: {outcome.seed}, {outcome.mutation}: {outcome.verdict}\n{outcome.said}")


if __name__ == "__main__":
    sys.exit(main())
