"""Counts the calls of one forward pass, and keeps the name that each call site got when it was first met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deadrelu.activations import Parameters
from deadrelu.programs.program import CallGroup, CallSite, Features, Observer
from deadrelu.report import Skipped, Source

Group = tuple[object, ...]
"""The calls that are counted together: ("module", which) or ("call", path, function)."""


@dataclass(frozen=True)
class Surroundings:
    """What is asked about a call site once, when it is new."""

    features: Features
    after: str | None
    source: Source | None
    rectified: bool = False


@dataclass(frozen=True)
class Place:
    """Where a call stands: the module whose forward makes it, and whether that is an activation module of torch.nn."""

    path: str
    is_module: bool
    source: Source | None

    def group(self, op: str) -> Group:
        """The calls with which a call of activation `op` here is counted."""
        return ("module", self.path) if self.is_module else ("call", self.path, op)


class Register:
    """Every call site met so far, in all forward passes."""

    def __init__(self, observer: Observer) -> None:
        """Nothing met yet; `observer` will be told of every call."""
        self._observer = observer
        self._sites: dict[Group, CallSite] = {}
        self._groups: dict[Group, CallGroup] = {}
        self._counts: dict[Group, int] = {}
        self._settled: dict[Group, set[int]] = {}
        self.unreadable: dict[str, Skipped] = {}

    def start_pass(self) -> None:
        """Count the calls from 1 again."""
        self._counts.clear()

    def calls(self, group: Group) -> int:
        """How often the group was called in this forward pass."""
        return self._counts.get(group, 0)

    def has_met(self, group: Group) -> bool:
        """Whether the group was ever called."""
        return group in self._groups

    def passes(self, group: Group) -> bool:
        """Count the group's next call if nothing more is to be learnt from it; False, and not counted, otherwise."""
        settled = self._settled.get(group)
        if settled is None:
            return False
        call = self._counts.get(group, 0) + 1
        if call not in settled:
            return False
        self._counts[group] = call
        return True

    def tells(self, group: Group, z: Tensor) -> bool:
        """Count the group's next call, and tell the observer, if its site is known; False, and not counted, otherwise.

        The short way of `observe`, for what is called in every pass.
        """
        call = self._counts.get(group, 0) + 1
        site = self._sites.get((*group, call))
        if site is None or _unreadable(z):
            return False
        self._counts[group] = call
        if self._observer(site, z.detach() if z.requires_grad else z):
            self._settled.setdefault(group, set()).add(call)
        return True

    def is_settled(self, group: Group) -> bool:
        """Whether nothing more is to be learnt from any call of the group that was ever made."""
        settled = self._settled.get(group)
        return settled is not None and len(settled) == self._groups[group].calls

    def observe(
        self,
        group: Group,
        path: str,
        op: str,
        parameters: Parameters,
        z: Tensor,
        surroundings: Callable[[], Surroundings],
        call: int | None = None,
    ) -> CallSite:
        """Count the call (as number `call`, if that is given), name its site if it is new, and tell the observer."""
        call = call or self._counts.get(group, 0) + 1
        self._counts[group] = call
        site = self._sites.get((*group, call))
        if site is None:
            site = self._sites[(*group, call)] = self._new_site(group, path, op, parameters, call, surroundings())
        if why := _unreadable(z):
            self.skip(site.id, op, why)
        elif self._observer(site, z.detach()):
            self._settled.setdefault(group, set()).add(call)
        return site

    def skip(self, id: str, op: str, reason: str) -> None:
        """Note a site that cannot be read, once."""
        self.unreadable.setdefault(id, Skipped(id=id, op=op, reason=reason))

    def _new_site(
        self, group: Group, path: str, op: str, parameters: Parameters, call: int, around: Surroundings
    ) -> CallSite:
        calls = self._groups.setdefault(group, CallGroup())
        calls.calls = max(calls.calls, call)
        return CallSite(
            op=op,
            parameters=parameters,
            module=path,
            call=call,
            functional=group[0] == "call",
            features=around.features,
            after=around.after,
            source=around.source,
            group=calls,
            rectified=around.rectified,
        )


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
