"""Checks in the middle of a scan whether its verdict is clear already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deadrelu.judge.early import Snapshot, Stopped
from deadrelu.measure.plan import Plan
from deadrelu.measure.tally import Tally
from deadrelu.programs.program import Program

FIRST = 8
"""A check follows each of so many batches; then one comes after every eighth part more."""


class Stop(Protocol):
    """Predicts the verdict of the whole scan from its sites so far; None while it is open."""

    def __call__(self, sites: Sequence[Snapshot], *, check: int, skipped: bool) -> Stopped | None:
        """`check` counts the checks from 1; `skipped` is whether any site was skipped."""


class EarlyStopping:
    """Calls `stop`, often at first and then ever more rarely: a check costs, and shares the risk of being wrong."""

    def __init__(self, stop: Stop | None, plan: Plan) -> None:
        """Only the sites that the plan wants count. Without `stop` there are no checks."""
        self._stop = stop
        self._plan = plan
        self._next = 1
        self._checks = 0

    def check(self, batches: int, tallies: Sequence[Tally], program: Program) -> Stopped | None:
        """The verdict after so many batches, if it is clear and a check is due."""
        if self._stop is None or batches < self._next:
            return None
        self._next = batches + max(1, batches // FIRST)
        self._checks += 1
        wanted = [tally for tally in tallies if self._plan.wants(tally.site)]
        sites = [
            Snapshot(
                site=tally.site,
                units=tally.units,
                silent=tally.may_be_dead,
                samples=tally.samples,
                guessed=tally.features.by == "guess",
            )
            for tally in wanted
            if tally.positions
        ]
        skipped = len(sites) < len(wanted) or any(self._plan.wants(skipped) for skipped in program.skipped())
        return self._stop(sites, check=self._checks, skipped=skipped)
