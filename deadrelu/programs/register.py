"""Counts the calls of each forward pass, and keeps the name that each call site got when it was first met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.activations import STANDINS
from deadrelu.flatness import Parameters
from deadrelu.programs.axes.unit_axes import UnitAxes
from deadrelu.programs.modes import is_transformed, without_functions
from deadrelu.programs.naming import Naming
from deadrelu.programs.program import ROOT, CallGroup, CallSite, Features, Observer
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped, Source

NEVER_CALLED = "never called: no batch reached it"
"""Why an activation of the model is skipped that did not run."""

GroupKey = tuple[object, ...]
"""The calls that are counted together: ("module", which) or ("call", path, function)."""


@dataclass(frozen=True)
class CallContext:
    """What is looked up about a call site when it is new, and again while its features are open.

    `axes` is None in a pass in which operators are not tracked.
    """

    axes: UnitAxes | None
    source: Source | None
    rectified: bool = False


@dataclass(frozen=True)
class Place:
    """Where a call is: the module whose forward makes it, and whether that is an activation module of torch.nn."""

    path: str
    is_module: bool
    source: Source | None

    def group(self, op: str) -> GroupKey:
        """The group in which a call of activation `op` here is counted."""
        return ("module", self.path) if self.is_module else ("call", self.path, op)

    def never_called(self, op: str) -> Skipped:
        """The entry for a call of activation `op` here that no batch reached."""
        id = (self.path or ROOT) if self.is_module else f"{self.path}:{op}"
        return Skipped(id=id, op=op, reason=NEVER_CALLED)


class CallCounter:
    """Counts the calls of one group in a forward pass: `number` is that of the last one.

    A call is new until `sites` has it, then known, and finished once nothing more is to be learnt from it.
    """

    def __init__(self, observer: Observer, tap: Tap = NO_TAP) -> None:
        """Start without calls."""
        self._observer = observer
        self._tap = tap
        self.number = 0
        self.sites: dict[int, CallSite] = {}
        self.group = CallGroup()
        self._finished: set[int] = set()

    def observe_known(self, z: Tensor) -> bool:
        """Count the next call and notify the observer, if it is known; else return False and count nothing.

        The fast path of `Register.observe`, for passes in which operators are not watched.
        """
        number = self.number + 1
        if number not in self._finished:
            site = self.sites.get(number)
            if site is None or _unreadable(z):
                return False
            with without_functions():  # what the observer computes is not part of the model
                if self._observer(site, z.detach() if z.requires_grad else z):
                    self._finished.add(number)
                self._tap.enter(site, z)
        self.number = number
        return True

    def skip_finished(self) -> bool:
        """Count the next call if it is finished; else return False and count nothing."""
        if self.number + 1 not in self._finished:
            return False
        self.number += 1
        return True

    def finish(self, number: int) -> None:
        """Nothing more is to be learnt from the call of this number."""
        self._finished.add(number)

    @property
    def all_finished(self) -> bool:
        """Whether every call that was ever made is finished."""
        return 0 < self.group.calls == len(self._finished)


class Register:
    """Every call site met so far, in all forward passes."""

    def __init__(self, observer: Observer, tap: Tap = NO_TAP) -> None:
        """Start without sites. What is observed goes to the `tap` too."""
        self._observer = observer
        self._tap = tap
        self._calls: dict[GroupKey, CallCounter] = {}
        self._open: dict[CallSite, UnitAxes | None] = {}
        self._unreadable: dict[CallSite | str, tuple[str, str]] = {}
        self._naming = Naming()
        self._passes = 0

    def start_pass(self) -> None:
        """Count the calls from 1 again."""
        self._passes += 1
        self._naming.start_pass()
        for calls in self._calls.values():
            calls.number = 0

    def end_pass(self) -> None:
        """Decide on the features that were open until their consumers had run."""
        for site, axes in list(self._open.items()):
            if axes is not None:
                site.features = axes.features(is_final=True)
                del self._open[site]

    @property
    def is_waiting(self) -> bool:
        """Whether some site was met while operators were not tracked, and its features are still open."""
        return bool(self._open)

    @property
    def is_audit(self) -> bool:
        """Whether the axes are tracked in this pass of a graph: its number is a power of two, or features are open."""
        return self._passes & (self._passes - 1) == 0 or self.is_waiting

    def calls(self, group: GroupKey) -> CallCounter:
        """The counter of a group, also before its first call."""
        found = self._calls.get(group)
        if found is None:
            found = self._calls[group] = CallCounter(self._observer, self._tap)
        return found

    def count_unobserved(self, group: GroupKey) -> int:
        """Count the next call of a group without notifying the observer; returns its number."""
        calls = self.calls(group)
        calls.number += 1
        calls.group.calls = max(calls.group.calls, calls.number)
        return calls.number

    def has_met(self, group: GroupKey) -> bool:
        """Whether the group was ever called."""
        return group in self._calls and bool(self._calls[group].sites)

    def observe(
        self,
        group: GroupKey,
        path: str,
        op: str,
        parameters: Parameters,
        z: Tensor,
        context: Callable[[], CallContext],
        number: int | None = None,
    ) -> CallSite:
        """Count the call (as this number, if one is given), name its site if it is new, and notify the observer."""
        calls = self.calls(group)
        calls.number = number or calls.number + 1
        site = calls.sites.get(calls.number)
        if site is None or site.features.by == "open":
            found = context()
            if site is None:
                site = calls.sites[calls.number] = _new_site(group, path, op, parameters, calls, found, z.ndim)
            self._learn(site, found.axes)
        elif site.name is not None:
            self._naming.meet(site.name)
        if site.functional and op in STANDINS:
            self._naming.pass_leak(path, site.after)
        if why := _unreadable(z) or site.obstacle:
            site.origin = None
            self.skip(site, op, why)
            if site.obstacle:
                calls.finish(site.call)
        else:
            if self._observer(site, z.detach()):
                calls.finish(site.call)
            if site.origin is not None:
                site.origin = site.origin.settled()
            self._tap.enter(site, z)
        return site

    @property
    def sites(self) -> tuple[CallSite, ...]:
        """The calls that the observer gets; ask for their ids when all ran."""
        met = (site for calls in self._calls.values() for site in calls.sites.values())
        return tuple(site for site in met if site not in self._unreadable)

    def skip(self, site: CallSite | str, op: str, reason: str) -> None:
        """Record once that a site, or what has this id, cannot be measured."""
        self._unreadable.setdefault(site, (op, reason))

    @property
    def unreadable(self) -> dict[str, Skipped]:
        """What could not be measured, by id. Ids depend on the number of calls, so they are final after all passes."""
        found = (
            Skipped(id=site, op=op, reason=reason)
            if isinstance(site, str)
            else Skipped(id=site.id, op=op, reason=reason, alias=site.alias)
            for site, (op, reason) in self._unreadable.items()
        )
        return {skipped.id: skipped for skipped in found}

    def _learn(self, site: CallSite, axes: UnitAxes | None) -> None:
        """Record the features of a site; what is open is decided when the pass ends."""
        if axes is not None:
            site.features, site.after = axes.features(), axes.after
            site.obstacle, site.axes = axes.obstacle, axes.descriptions
            site.origin, site.entries, site.reached = axes.origin, axes.entries, axes.reached
            if site.functional and site.name is None:
                site.name = self._naming.name(site.module, site.op, site.call, site.after)
        if site.features.by == "open" and site.obstacle is None:
            self._open[site] = axes
        else:
            self._open.pop(site, None)


def _new_site(
    group: GroupKey, path: str, op: str, parameters: Parameters, calls: CallCounter, found: CallContext, ndim: int
) -> CallSite:
    """A site with open features: until they are known, axis 1 of an image and the last axis of anything flatter."""
    calls.group.calls = max(calls.group.calls, calls.number)
    return CallSite(
        op=op,
        parameters=parameters,
        module=path,
        call=calls.number,
        functional=group[0] == "call",
        features=Features((1,) if ndim > 3 else (-1,), "open"),
        after=None,
        source=found.source,
        group=calls.group,
        rectified=found.rectified,
    )


def _unreadable(z: Tensor) -> str | None:
    """Why the values of a pre-activation cannot be read; None if they can be."""
    if z.layout is not torch.strided or z.is_nested:
        kind = "nested" if z.is_nested else str(z.layout).removeprefix("torch.")
        return f"its pre-activation is a {kind} tensor"
    if is_transformed(z):
        return "called inside a transform of torch.func (vmap, jvp, …), where no value can be read"
    return None
