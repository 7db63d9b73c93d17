"""Looking in the middle of a scan whether its verdict is clear already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deadrelu.judge.early import Snapshot, Stopped
from deadrelu.judge.globs import Named
from deadrelu.measure.tally import Tally
from deadrelu.programs.program import Program

Stop = Callable[[Sequence[Snapshot], int, bool], Stopped | None]
"""Told how the sites stand, which look this is (from 1), and whether anything was skipped; the verdict, if clear."""

EVERY = 8
"""So many batches are looked after one by one; then a look comes after every eighth part more."""


class Looks:
    """Asks `stop`, often at first and then ever more rarely: a look costs, and shares the risk of being wrong."""

    def __init__(self, stop: Stop | None, wants: Callable[[Named], bool]) -> None:
        """`wants` says which sites count; without `stop` nobody is asked."""
        self._stop = stop
        self._wants = wants
        self._next = 1
        self._made = 0

    def verdict(self, batches: int, tallies: Sequence[Tally], program: Program) -> Stopped | None:
        """The verdict after so many batches, if it is clear and it is time for a look."""
        if self._stop is None or batches < self._next:
            return None
        self._next = batches + max(1, batches // EVERY)
        self._made += 1
        wanted = [tally for tally in tallies if self._wants(tally.site)]
        standings = [
            Snapshot(
                site=tally.site,
                units=tally.units,
                silent=tally.silent,
                samples=tally.samples,
                guessed=tally.features.by == "guess",
            )
            for tally in wanted
            if tally.positions
        ]
        skips = len(standings) < len(wanted) or any(self._wants(skipped) for skipped in program.skipped())
        return self._stop(standings, self._made, skips)
