"""Times whole processes in turn (A B C A B C …), so that what else the machine does falls on all alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Process:
    """A command line; `printed` takes the seconds that it prints as its last word, not those that it lived."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    printed: bool = False

    def seconds(self) -> float:
        """Run it to its end. Raises `CalledProcessError` where it fails."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=True
        )
        lived = time.perf_counter() - begun
        return float(done.stdout.split()[-1]) if self.printed else lived


def interleaved(processes: Mapping[str, Process], rounds: int) -> dict[str, list[float]]:
    """The seconds of each process in each round, after one round that only warms the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for number in range(rounds + 1):
        for name, process in processes.items():
            took = process.seconds()
            if number:
                seconds[name].append(took)
    return seconds


def table(seconds: Mapping[str, Sequence[float]], base: str) -> str:
    """A Markdown table: median, range, and the median of the ratios to `base` of the same round."""
    lines = ["| | median | range | ratio |", "|---|---|---|---|"]
    for name, times in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(times, seconds[base], strict=True))
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.3f} s | {min(times):.3f}–{max(times):.3f} | {ratio:.2f} |")
    return "\n".join(lines)
