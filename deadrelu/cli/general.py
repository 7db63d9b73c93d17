"""The options of `deadrelu` itself and the sections of a help: all that a help without a command needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

MODEL = "Model"
DATA = "Data"
WHAT = "What to measure"
TRAIN = "Training"
PROOF = "What to prove"
GATE = "Gate"
OUTPUT = "Output"
SWAP = "What to swap"
PANELS = (MODEL, DATA, WHAT, TRAIN, SWAP, PROOF, GATE, OUTPUT)
"""The sections of a help, in their order."""


def _show_traceback(wanted: bool) -> None:
    if wanted:
        os.environ["DEADRELU_DEBUG"] = "1"


DebugOption = Annotated[
    bool, typer.Option("--debug", callback=_show_traceback, is_eager=True, help="Show the traceback of an error.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read this configuration file. Default: the nearest deadrelu.toml or pyproject.toml.",
    ),
]
NoConfigOption = Annotated[bool, typer.Option("--no-config", help="Read no configuration file.")]
