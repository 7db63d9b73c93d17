"""Two processes that take turns at their work, so that what else the machine does falls on both alike."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.interleaved import Took

REST = 0.005
"""Seconds between turns. The threads of the one that waits spin for a while before they sleep."""


def in_turns(*sides: tuple[str, ...]) -> list[Took]:
    """What the whole pass of each side took, given as the arguments of `benchmarks.side`."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.side", *side],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=Path(__file__).parents[1],
                )
            )
            for side in sides
        ]
        (count,) = {int(_heard(process)) for process in processes}
        took = [Took(0.0, 0.0) for _ in processes]
        for _ in range(count):
            for index, process in enumerate(processes):
                time.sleep(REST)
                print(file=process.stdin, flush=True)
                seconds, worked = map(float, _heard(process).split())
                took[index] = Took(took[index].seconds + seconds, took[index].processor + worked)
    return took


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()
