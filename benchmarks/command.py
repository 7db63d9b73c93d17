"""The command line of a benchmark that has a row for each of the networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.networks import NETWORKS

Sections = Callable[[int, Sequence[str]], Iterator[str]]
"""Yields the tables line by line, for so many rounds and the networks of these names."""


def show(sections: Sections, description: str, *, rounds: int) -> None:
    """Run a benchmark as its command line says, by default for so many rounds, and print each line when it is known."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for line in sections(asked.rounds, asked.networks):
        print(line, flush=True)
