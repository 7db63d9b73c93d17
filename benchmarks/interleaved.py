"""Times whole processes in turn (A B C A B C …), so that what else the machine does falls on all alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Took(NamedTuple):
    """Seconds by the clock, and seconds of processor time of the whole process, which a busy machine changes less."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Process:
    """A command line; `printed` takes the seconds that it prints as its last word, not those that it lived."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    printed: bool = False

    def run(self) -> Took:
        """Run it to its end. Raises `CalledProcessError` where it fails."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            self.words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=True
        )
        lived, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Took(float(done.stdout.split()[-1]) if self.printed else lived, worked)


def interleaved(processes: Mapping[str, Process], rounds: int) -> dict[str, list[Took]]:
    """What each process took in each round, after one round that only warms the caches."""
    times: dict[str, list[Took]] = {name: [] for name in processes}
    for number in range(rounds + 1):
        for name, process in processes.items():
            took = process.run()
            if number:
                times[name].append(took)
    return times


def table(times: Mapping[str, Sequence[Took]], base: str) -> str:
    """A Markdown table: median and range, and the medians of the ratios to `base` of the same round."""
    lines = ["| | median | range | ratio | ratio of processor time |", "|---|---|---|---|---|"]
    for name, took in times.items():
        pairs = list(zip(took, times[base], strict=True))
        ratio = statistics.median(own.seconds / other.seconds for own, other in pairs)
        work = statistics.median(own.processor / other.processor for own, other in pairs)
        clock = [one.seconds for one in took]
        spread = f"{min(clock):.3f}–{max(clock):.3f}"
        lines.append(f"| {name} | {statistics.median(clock):.3f} s | {spread} | {ratio:.2f} | {work:.2f} |")
    return "\n".join(lines)
