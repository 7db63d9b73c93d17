"""Counts the calls of one forward pass, and keeps the name that each call site got when it was first met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.activations import Parameters
from deadrelu.programs.axes.unit_axes import UnitAxes
from deadrelu.programs.naming import Naming
from deadrelu.programs.program import CallGroup, CallSite, Features, Observer
from deadrelu.report import Leaky, Skipped, Source

GroupKey = tuple[object, ...]
"""The calls that are counted together: ("module", which) or ("call", path, function)."""


@dataclass(frozen=True)
class CallContext:
    """What is asked about a call site when it is new, and again while its features are open.

    `reading` is None in a pass in which operators are not followed.
    """

    reading: UnitAxes | None
    source: Source | None
    rectified: bool = False


@dataclass(frozen=True)
class Place:
    """Where a call stands: the module whose forward makes it, and whether that is an activation module of torch.nn."""

    path: str
    is_module: bool
    source: Source | None

    def group(self, op: str) -> GroupKey:
        """The calls with which a call of activation `op` here is counted."""
        return ("module", self.path) if self.is_module else ("call", self.path, op)


class CallCounter:
    """The calls that are counted together: how many there were in this forward pass, and the site of each."""

    def __init__(self, observer: Observer) -> None:
        """None yet; `observer` will be told of every one."""
        self._observer = observer
        self.number = 0
        self.sites: dict[int, CallSite] = {}
        self.group = CallGroup()
        self._settled: set[int] = set()

    def tells(self, z: Tensor) -> bool:
        """Count the next call, and tell the observer, if its site is known; False, and not counted, otherwise.

        The short way of `Register.observe`, for what is called in every pass, but for one in which operators are seen.
        """
        number = self.number + 1
        if number not in self._settled:
            site = self.sites.get(number)
            if site is None or _unreadable(z):
                return False
            with torch._C.DisableTorchFunction():  # what is computed there is no part of the model
                if self._observer(site, z.detach() if z.requires_grad else z):
                    self._settled.add(number)
        self.number = number
        return True

    def passes(self) -> bool:
        """Count the next call if nothing more is to be learnt from it; False, and not counted, otherwise."""
        if self.number + 1 not in self._settled:
            return False
        self.number += 1
        return True

    def settle(self, number: int) -> None:
        """Nothing more is to be learnt from the call of this number."""
        self._settled.add(number)

    @property
    def are_settled(self) -> bool:
        """Whether nothing more is to be learnt from any that was ever made."""
        return 0 < self.group.calls == len(self._settled)


class Register:
    """Every call site met so far, in all forward passes."""

    def __init__(self, observer: Observer) -> None:
        """Nothing met yet; `observer` will be told of every call."""
        self._observer = observer
        self._calls: dict[GroupKey, CallCounter] = {}
        self._readings: dict[CallSite, UnitAxes | None] = {}
        self._unreadable: dict[CallSite | str, tuple[str, str]] = {}
        self._naming = Naming()
        self._leaky: list[CallSite] = []

    def start_pass(self) -> None:
        """Count the calls from 1 again."""
        self._naming.start_pass()
        for calls in self._calls.values():
            calls.number = 0

    def end_pass(self) -> None:
        """Decide where the features lie of the sites that waited for what comes after them."""
        for site, reading in list(self._readings.items()):
            if reading is not None:
                site.features = reading.features(is_final=True)
                del self._readings[site]

    @property
    def is_waiting(self) -> bool:
        """Whether some site was met while operators were not followed, so that its features are still open."""
        return bool(self._readings)

    def calls(self, group: GroupKey) -> CallCounter:
        """The calls of a group, also before the first."""
        found = self._calls.get(group)
        if found is None:
            found = self._calls[group] = CallCounter(self._observer)
        return found

    def pass_over(self, group: GroupKey) -> int:
        """Count the next call of a group without telling the observer; its number."""
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
        surroundings: Callable[[], CallContext],
        number: int | None = None,
        *,
        leaky: bool = False,
    ) -> CallSite:
        """Count the call (as this number, if one is given), name its site if it is new, and tell the observer.

        Of a `leaky` call it is told nothing.
        """
        calls = self.calls(group)
        calls.number = number or calls.number + 1
        site = calls.sites.get(calls.number)
        # Where one branch of a graph leaks at this call of a module and another does not, the site is what is measured.
        if site is not None and leaky and site.shape is None:
            return site
        if site is not None and not leaky and site.shape is not None:
            self._leaky.remove(site)
            site = None
        if site is None or site.features.by == "open":
            around = surroundings()
            if site is None:
                site = calls.sites[calls.number] = _new_site(group, path, op, parameters, calls, around, z.ndim)
                if leaky:
                    site.shape = tuple(z.shape)
                    self._leaky.append(site)
            self._learn(site, around.reading)
        elif site.name is not None:
            self._naming.meet(site.name)
        if leaky:
            if site.functional:
                self._naming.pass_leak(path, site.after)
            calls.settle(site.call)
        elif why := _unreadable(z) or site.obstacle:
            self.skip(site, op, why)
            if site.obstacle:
                calls.settle(site.call)
        elif self._observer(site, z.detach()):
            calls.settle(site.call)
        return site

    def leaky(self) -> tuple[Leaky, ...]:
        """The calls of leaky activations, in the order in which they were met; ask when all ran, as for the others."""
        return tuple(
            Leaky(
                id=site.id,
                op=site.op,
                module=site.module,
                call=site.call,
                calls=site.group.calls,
                after=site.after,
                units=_units(site),
            )
            for site in self._leaky
        )

    @property
    def sites(self) -> tuple[CallSite, ...]:
        """The calls that the observer gets; ask for their ids when all ran."""
        met = (site for calls in self._calls.values() for site in calls.sites.values())
        return tuple(site for site in met if site.shape is None and site not in self._unreadable)

    def skip(self, site: CallSite | str, op: str, reason: str) -> None:
        """Note a site that cannot be read, or the id of one, once."""
        self._unreadable.setdefault(site, (op, reason))

    @property
    def unreadable(self) -> dict[str, Skipped]:
        """What could not be read, by id. The id of a site depends on how many calls there are, so ask when all ran."""
        found = (
            Skipped(id=site, op=op, reason=reason)
            if isinstance(site, str)
            else Skipped(id=site.id, op=op, reason=reason, alias=site.alias)
            for site, (op, reason) in self._unreadable.items()
        )
        return {skipped.id: skipped for skipped in found}

    def _learn(self, site: CallSite, reading: UnitAxes | None) -> None:
        """Take in what is known of the features of a site; what is open is decided when the pass ends."""
        if reading is not None:
            site.features, site.after = reading.features(), reading.after
            site.obstacle, site.axes = reading.obstacle, reading.descriptions
            if site.functional and site.name is None:
                site.name = self._naming.name(site.module, site.op, site.call, site.after)
        if site.features.by == "open" and site.obstacle is None:
            self._readings[site] = reading
        else:
            self._readings.pop(site, None)


def _new_site(
    group: GroupKey, path: str, op: str, parameters: Parameters, calls: CallCounter, around: CallContext, ndim: int
) -> CallSite:
    """A site whose features are open: an axis to guess at is that of an image, or the last of anything flatter."""
    calls.group.calls = max(calls.group.calls, calls.number)
    return CallSite(
        op=op,
        parameters=parameters,
        module=path,
        call=calls.number,
        functional=group[0] == "call",
        features=Features((1,) if ndim > 3 else (-1,), "open"),
        after=None,
        source=around.source,
        group=calls.group,
        rectified=around.rectified,
    )


def _units(site: CallSite) -> int | None:
    """How many units a leaky call has; None where nothing around it says which axis holds them."""
    if site.shape is None or site.obstacle is not None or site.features.by != "producer":
        return None
    z = site.features.apart(torch.empty(site.shape, device="meta"))
    return math.prod(z.shape[axis] for axis in site.features.axes)


def _unreadable(z: Tensor) -> str | None:
    """Why the values of a pre-activation cannot be read; None if they can.

    `is_functorch_wrapped_tensor` is private to torch (seen on 2.13.0); a test scans a model that needs it.
    """
    if z.layout is not torch.strided or z.is_nested:
        kind = "nested" if z.is_nested else str(z.layout).removeprefix("torch.")
        return f"its pre-activation is a {kind} tensor"
    if torch._C._functorch.is_functorch_wrapped_tensor(z):
        return "called inside a transform of torch.func (vmap, jvp, …), where no value can be read"
    return None
