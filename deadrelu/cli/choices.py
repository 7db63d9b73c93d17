"""Options that take one of a few words: the words, and how such an option is declared."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import typer

from deadrelu.cli.completion import values_of
from deadrelu.cli.values import read_choice


class Device(str, Enum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class DeviceMap(str, Enum):
    """How a model is spread over several devices."""

    AUTO = "auto"


class StatsChoice(str, Enum):
    """How much is measured."""

    FIRED = "fired"
    RATES = "rates"
    FULL = "full"


def choice(kind: Iterable[Enum], *flags: str, help: str, panel: str, metavar: str = "") -> Any:
    """An option that takes one of the values of an enumeration, or of some of its members; the shell completes them."""
    return typer.Option(
        *flags,
        metavar=metavar or "|".join(str(member.value) for member in kind),
        parser=read_choice(kind),
        autocompletion=values_of(kind),
        help=help,
        rich_help_panel=panel,
    )
