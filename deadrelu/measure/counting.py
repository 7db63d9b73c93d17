"""Counts what a program tells of its activation calls, site by site: what of them is data, and on how many samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor

from deadrelu.measure.blocks import Scratch
from deadrelu.measure.padding.session import Padding
from deadrelu.measure.reach import Reach, samples_first
from deadrelu.measure.tallied import Place, Tallied, tallied, with_own_ids
from deadrelu.measure.tally import Tally, UncountableError
from deadrelu.programs.program import Batch, CallSite, Features, Program
from deadrelu.report import Skipped, Stats


@dataclass(slots=True)
class _Met:
    """A site that was met: its counters, unless its first pre-activation had no units, and why they are no use.

    `waiting` are pre-activations whose feature axis is still open, each with the batch and the number of its pass.
    """

    first: Place
    tally: Tally | None = None
    lost: str | None = None
    reach: Reach = field(default_factory=Reach)
    waiting: list[tuple[Tensor, Batch, int]] = field(default_factory=list)


class Counting:
    """The observer of a scan: a tally for each site, and the padding that is left out of it."""

    def __init__(self, program: Program, features_of: Callable[[CallSite, Tensor], Features], stats: Stats) -> None:
        """Nothing counted yet. `features_of` is asked once for each site, with its first pre-activation."""
        self._features_of = features_of
        self._stats = stats
        self._scratch = Scratch()
        self._met: dict[CallSite, _Met] = {}
        self._batch = Batch(samples=0)
        self._at = (0, 0)
        self._pass = 0
        self._is_counted = True
        self.padding = Padding(program, self._released)

    @contextmanager
    def forward(self, batch: Batch, at: tuple[int, int], *, is_counted: bool) -> Iterator[None]:
        """The forward pass of one batch, which stands `at` this place in the data; its sites are met in any case."""
        self._batch, self._at, self._is_counted = batch, at, is_counted
        self._pass += 1
        self.padding.start(batch)
        yield
        self._decide()
        self.padding.finish(is_counted=is_counted)

    def observe(self, site: CallSite, z: Tensor) -> bool:
        """Count one pre-activation; whether nothing more is to be learnt from the site."""
        met = self._met.get(site) or self._meet(site)
        if met.lost is not None:
            return True
        if met.tally is None:
            if not self._begin(site, met, z):
                return met.lost is not None
            assert met.tally is not None
        if met.tally.features.cut is not None:
            z = met.tally.features.apart(z)
        if met.tally.settled or not self._is_counted or not z.numel():
            return met.tally.settled
        if self._batch.axis == 1:
            z = samples_first(z, met.tally.features, self._batch.samples)
        if not self.padding.is_idle and self.padding.holds(site, z, met.tally.features):
            return False
        return self._count(site, met, met.tally, z)

    def tallies(self) -> list[Tally]:
        """The counters of the sites that were measured so far."""
        return [met.tally for met in self._met.values() if met.tally is not None and met.lost is None]

    def sites(self, *, is_graph: bool) -> tuple[Tallied, ...]:
        """What was counted, in the order in which the sites were met. In a graph every call can be swapped."""
        met = (found for found in self._met.values() if found.tally is not None)
        return with_own_ids(tallied(m.tally, m.first, m.lost, is_graph=is_graph) for m in met if m.tally is not None)

    def skipped(self) -> list[Skipped]:
        """The sites that have no units to count."""
        return [
            Skipped(id=site.id, op=site.op, reason=met.lost, alias=site.alias)
            for site, met in self._met.items()
            if met.tally is None and met.lost is not None
        ]

    def end(self) -> None:
        """The scan is over: what is still open is counted by a guess."""
        self._decide(is_over=True)

    def _meet(self, site: CallSite) -> _Met:
        met = self._met[site] = _Met((*self._at, len(self._met)))
        return met

    def _begin(self, site: CallSite, met: _Met, z: Tensor) -> bool:
        """Set up the counters of a site; False where it has no units, or waits for its feature axis to be known."""
        features = self._features_of(site, z)
        if features.by == "open":
            if self._is_counted:
                met.waiting.append((z.clone(), self._batch, self._pass))
            return False
        try:
            met.tally = Tally(site, features, features.apart(z), self._scratch, self._stats)
        except UncountableError as error:
            met.lost = str(error)
        return met.tally is not None

    def _decide(self, *, is_over: bool = False) -> None:
        """Count what waited for the layers that read it to tell where its features are.

        What waits for another pass is not counted where the padding of its own was known: that is forgotten by then.
        """
        for site, met in self._met.items():
            if not met.waiting:
                continue
            if is_over and site.features.by == "open":
                site.features = replace(site.features, by="guess")
            if site.features.by == "open":
                met.waiting = [one for one in met.waiting if one[2] != self._pass or self.padding.is_idle]
                continue
            now = self._batch, self._pass
            waiting, met.waiting = met.waiting, []
            for z, batch, number in waiting:
                self._batch, self._pass = batch, number
                self.observe(site, z)
            self._batch, self._pass = now

    def _released(self, site: CallSite, z: Tensor) -> None:
        met = self._met[site]
        if met.tally is not None and met.lost is None:
            self._count(site, met, met.tally, z)

    def _count(self, site: CallSite, met: _Met, tally: Tally, z: Tensor) -> bool:
        batch, real = self._batch, None
        if not self.padding.is_idle:
            real = self.padding.real(site, z, tally.features)
        try:
            if real is None:
                tally.add(z, met.reach.new(z, tally.features, batch, self._pass), batch.samples)
                return tally.settled
            parts, sequences = real
            left = met.reach.at_most(min(sequences, batch.samples), self._pass)
            for part in parts:
                new = min(left, len(part))
                left -= new
                tally.add(part, new, len(part) if part.ndim > 2 else sequences)
        except UncountableError as error:
            met.lost = str(error)
            return True
        return tally.settled
