"""The table that the step files fill: a step takes a value and adds statements, or gives None where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.networks.builder import Builder, Value

Step = Callable[[Builder, Value], Value | None]

STEPS: dict[Step, int] = {}
"""Every step, with how often it is tried in relation to the others."""


HARD: dict[Step, int] = {}
"""The steps that are taken only in hard networks, where a guess is an answer."""


def step(weight: int = 2) -> Callable[[Step], Step]:
    """Enter a step into the table."""
    return partial(_enter, STEPS, weight)


def hard_step(weight: int) -> Callable[[Step], Step]:
    """Enter a step into the table of the hard ones."""
    return partial(_enter, HARD, weight)


def _enter(table: dict[Step, int], weight: int, function: Step) -> Step:
    table[function] = weight
    return function
