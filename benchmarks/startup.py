"""`python -m benchmarks.startup`: what starting and leaving cost, in Markdown tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks.interleaved import Process, interleaved, table


def sections(rounds: int) -> Iterator[str]:
    """The help against the bare imports; and torch imported and left, plainly and as the command does it."""
    python = sys.executable
    own = "from deadrelu.cli import process; process.own()\nwith process.importing(): import torch\n"
    helps = {
        "`import typer, rich`": Process([python, "-c", "import typer, rich"]),
        "`deadrelu --help`": Process([python, "-m", "deadrelu", "--help"]),
        "`deadrelu --version`": Process([python, "-m", "deadrelu", "--version"]),
    }
    torch = {
        "`import torch`": Process([python, "-c", "import torch"]),
        "imported and left as the command does": Process([python, "-c", own + "process.leave(0)"]),
        "the same, `DEADRELU_EXIT=python`": Process(
            [python, "-c", own + "process.leave(0)"], {"DEADRELU_EXIT": "python"}
        ),
    }
    yield "### Start-up\n"
    yield table(interleaved(helps, rounds), "`import typer, rich`")
    yield ""
    yield table(interleaved(torch, rounds), "`import torch`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    for line in sections(parser.parse_args().rounds):
        print(line, flush=True)
