"""Restarts units again and again while a model trains: every so many steps, until a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deadrelu.errors import UsageError
from deadrelu.training.recycle.recycle import Recycled


class Recycler:
    """Counts the steps of a loop, and restarts units at each `every`-th, up to step `until`."""

    def __init__(self, restart: Callable[[int], Mapping[str, Recycled]], every: int, until: int | None) -> None:
        """`restart` takes the number of the step. Raises `UsageError` for an `every` below 1."""
        if every < 1:
            raise UsageError(f"every={every} is not a number of steps", hint="give every=1000")
        self.steps = 0
        """How often `step` was called."""
        self.restarted = 0
        """How many units were restarted so far."""
        self._restart, self._every, self._until = restart, every, until

    def step(self) -> Mapping[str, Recycled]:
        """Say that the optimizer has made a step; returns what was restarted by site, nothing at most steps."""
        self.steps += 1
        if self.steps % self._every or (self._until is not None and self.steps > self._until):
            return {}
        found = self._restart(self.steps)
        self.restarted += sum(len(each.units) for each in found.values())
        return found

    def state_dict(self) -> dict[str, int]:
        """What it has to remember to go on later."""
        return {"steps": self.steps, "restarted": self.restarted}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from what `state_dict` returned."""
        self.steps, self.restarted = state["steps"], state["restarted"]
