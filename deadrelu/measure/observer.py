"""Counts the activation calls that a program reports, site by site: which values are data, and of how many samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor

from deadrelu.measure.gradients import GradientTap
from deadrelu.measure.measurement import Measurement, SiteCounts, with_unique_ids
from deadrelu.measure.padding.padding import Padding
from deadrelu.measure.plan import Plan
from deadrelu.measure.reach import Reach, samples_first
from deadrelu.measure.tally import Tally, UncountableError
from deadrelu.measure.unit_layers import SiteNames, inputs_of, silence_at
from deadrelu.measure.units import by_unit
from deadrelu.programs.axes.origins import LayerEntries
from deadrelu.programs.eager.calls import ON_MODULES, Hooks
from deadrelu.programs.program import Batch, CallSite, Program
from deadrelu.report import Site, Skipped
from deadrelu.report.causes import Inputs


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """One forward pass, `at` this batch and piece of it, both counted from 0; `number` counts the passes from 1.

    A pass that is not counted still shows which sites there are.
    """

    batch: Batch
    number: int
    at: tuple[int, int]
    is_counted: bool


@dataclass(slots=True)
class _SiteState:
    """A site that ran: its counters, unless its first pre-activation had no units; `failure` is why they are useless.

    `waiting` are pre-activations whose feature axis is still open, each with its pass.
    """

    first: tuple[int, ...]
    tally: Tally | None = None
    failure: str | None = None
    reach: Reach = field(default_factory=Reach)
    waiting: list[tuple[Tensor, ForwardPass]] = field(default_factory=list)


class CountingObserver:
    """The observer of a scan: a tally for each site, and the padding that is left out of it."""

    def __init__(
        self, program: Program, plan: Plan, gradients: GradientTap | None = None, hooks: Hooks = ON_MODULES
    ) -> None:
        """Nothing is counted yet. What is counted of a site has the sums of its `gradients` with it."""
        self._plan = plan
        self._gradients = gradients
        self._is_graph = program.kind != "eager"
        self._module = program.module
        self._entries: tuple[LayerEntries, int] | None = None
        self._states: dict[CallSite, _SiteState] = {}
        self._pass = ForwardPass(batch=Batch(samples=0), number=0, at=(0, 0), is_counted=False)
        self.padding = Padding(program, self._count_released, hooks)

    @contextmanager
    def forward(self, this: ForwardPass) -> Iterator[None]:
        """The block runs this forward pass."""
        self._pass = this
        self.padding.start(this.batch)
        yield
        self._count_waiting()
        self.padding.finish(is_counted=this.is_counted)

    def observe(self, site: CallSite, z: Tensor) -> bool:
        """Count one pre-activation; return whether there is nothing more to learn from the site."""
        state = self._states.get(site)
        if state is None:
            state = self._states[site] = _SiteState((*self._pass.at, len(self._states)))
            if self._entries is None and site.entries is not None:
                self._entries = site.entries, self._pass.batch.samples
        if state.failure is not None:
            return True
        tally = state.tally or self._begin(site, state, z)
        if tally is None:
            return state.failure is not None
        z = tally.features.apart(z)
        if tally.is_done or not self._pass.is_counted or not z.numel():
            return tally.is_done
        if self._pass.batch.axis == 1:
            z = samples_first(z, tally.features, self._pass.batch.samples)
        if not self.padding.is_idle and self.padding.holds(site, z, tally.features):
            return False
        return self._count(site, state, tally, z)

    def measurement(self, skipped: Iterable[Skipped], samples: int, batches: int) -> Measurement:
        """What was counted in so many samples and batches; what still waits for its feature axis, by a guess."""
        self.finish()
        return Measurement(
            sites=self.sites(),
            skipped=(*skipped, *self.skipped()),
            samples=samples,
            batches=batches,
            padding=self.padding.found,
            is_native=any(tally.is_native for tally in self.tallies()),
        )

    def finish(self) -> None:
        """Count what still waits for its feature axis, by a guess."""
        self._count_waiting(is_over=True)

    def restart(self) -> None:
        """Count from 0 again, at the sites that are known."""
        for state in self._states.values():
            state.waiting.clear()
            if state.tally is not None:
                state.tally.clear()

    def tallies(self) -> list[Tally]:
        """The counters of the sites that were measured so far."""
        return [state.tally for state in self._states.values() if state.tally is not None and state.failure is None]

    def named(self) -> dict[CallSite, Site]:
        """The sites that have counters, with the ids that `sites` gives them."""
        counted = [site for site, state in self._states.items() if state.tally is not None]
        return {site: of.site for site, of in zip(counted, self.sites(), strict=True)}

    def parts(self, site: CallSite, z: Tensor) -> list[Tensor] | None:
        """A tensor of the shape of this pass's pre-activation, by unit, without padding; None while axes are open."""
        state = self._states[site]
        if state.failure is not None:
            return []
        if state.tally is None:
            return None
        features, batch = state.tally.features, self._pass.batch
        z = features.apart(z)
        if batch.axis == 1:
            z = samples_first(z, features, batch.samples)
        real = None if self.padding.is_idle else self.padding.real(site, z, features)
        return [by_unit(part, features) for part in ((z,) if real is None else real[0])]

    def sites(self) -> tuple[SiteCounts, ...]:
        """What was counted, in the order in which the sites first ran."""
        names = SiteNames(self._module, self._states)
        return with_unique_ids(
            self._site_counts(site, state, state.tally, names)
            for site, state in self._states.items()
            if state.tally is not None
        )

    def skipped(self) -> list[Skipped]:
        """The sites that have no units to count."""
        return [
            Skipped(id=site.id, op=site.op, reason=state.failure, alias=site.alias)
            for site, state in self._states.items()
            if state.tally is None and state.failure is not None
        ]

    def _begin(self, site: CallSite, state: _SiteState, z: Tensor) -> Tally | None:
        """Set up the counters of a site; None where it has no units, or has to wait for its feature axis."""
        features = self._plan.features(site, z)
        if features.by == "open":
            if self._pass.is_counted:
                state.waiting.append((z.clone(), self._pass))
            return None
        try:
            plan = self._plan
            of = features.apart(z)
            state.tally = Tally(site, features, of, plan.stats, plan.saturated_below, has_ranks=plan.plasticity)
        except UncountableError as error:
            state.failure = str(error)
        return state.tally

    def _count_waiting(self, *, is_over: bool = False) -> None:
        """Count what waited for a layer that reads it to show its feature axis.

        What waits beyond its own pass is dropped if padding was known in that pass: the masks are forgotten by then.
        """
        for site, state in self._states.items():
            if not state.waiting:
                continue
            if is_over and site.features.by == "open":
                site.features = replace(site.features, by="guess")
            if site.features.by == "open":
                state.waiting = [one for one in state.waiting if one[1] is not self._pass or self.padding.is_idle]
                continue
            now, (waiting, state.waiting) = self._pass, (state.waiting, [])
            for z, its_pass in waiting:
                self._pass = its_pass
                self.observe(site, z)
            self._pass = now

    def _count_released(self, site: CallSite, z: Tensor) -> None:
        state = self._states[site]
        if state.tally is not None and state.failure is None:
            self._count(site, state, state.tally, z)

    def _count(self, site: CallSite, state: _SiteState, tally: Tally, z: Tensor) -> bool:
        batch, number = self._pass.batch, self._pass.number
        real = None if self.padding.is_idle else self.padding.real(site, z, tally.features)
        try:
            if real is None:
                tally.update(z, state.reach.new(z, tally.features, batch, number), batch.samples)
                if not tally.is_listening:
                    site.origin = None
                return tally.is_done
            parts, sequences = real
            left = state.reach.at_most(min(sequences, batch.samples), number)
            for part in parts:
                new = min(left, len(part))
                left -= new
                tally.update(part, new, len(part) if part.ndim > 2 else sequences)
        except UncountableError as error:
            state.failure = str(error)
            return True
        return tally.is_done

    def inputs(self) -> Inputs | None:
        """What entered the model in the pass in which its first site was met."""
        return None if self._entries is None else inputs_of(*self._entries)

    def _site_counts(self, call: CallSite, state: _SiteState, tally: Tally, names: SiteNames) -> SiteCounts:
        """The state of a site in plain values. In a graph every call can be swapped, even a functional one."""
        counts = tally.compute()
        if call.rectified:  # how near a silent unit came to waking is not known
            maxima, minima = (tuple(value or None for value in each) for each in (counts.maxima, counts.minima))
            counts = replace(counts, maxima=maxima, minima=minima)
        site = Site(
            id=call.id,
            op=call.op,
            module=call.module,
            call=call.call,
            calls=call.group.calls,
            after=call.after,
            source=call.source,
            swappable=self._is_graph or not call.functional,
            feature_axis=tally.axis,
            shape=tally.shape,
            units=tally.units,
            feature_axis_by="guess" if tally.features.by == "open" else tally.features.by,
            alias=call.alias,
        )
        return SiteCounts(
            site=site,
            functional=call.functional,
            first=state.first,
            counts=counts,
            failure=state.failure,
            gram=None if tally.gram is None else tally.gram.matrix,
            gradients=None if self._gradients is None else self._gradients.sums(call, tally.units),
            silence=silence_at(call, tally, counts.fires, names),
        )
