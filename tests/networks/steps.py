"""The table that the step files fill: a step takes a value and adds statements, or gives None where it does not fit."""

from __future__ import annotations

from collections.abc import Callable

from tests.networks.builder import Builder, Value

Step = Callable[[Builder, Value], Value | None]

STEPS: dict[Step, int] = {}
"""Every step, with how often it is tried in relation to the others."""


def step(weight: int = 2) -> Callable[[Step], Step]:
    """Enter a step into the table."""

    def enter(function: Step) -> Step:
        STEPS[function] = weight
        return function

    return enter
