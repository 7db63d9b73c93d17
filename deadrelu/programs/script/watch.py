"""Watches a TorchScript module run, by probes in a copy of its graph or by the operators that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from deadrelu.programs.axes.provenance import Provenance, following
from deadrelu.programs.callsites import STAND_IN, read_call, read_calls, spellings
from deadrelu.programs.modes import Operators
from deadrelu.programs.program import ROOT, Batch, CallSite, Output
from deadrelu.programs.register import CallContext, Register
from deadrelu.programs.script.graph import Probe, Probed
from deadrelu.programs.script.nodes import GATES_ALIKE, ScriptModule, gates_of
from deadrelu.programs.script.probe import listening
from deadrelu.programs.special_operators import fused_reason
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped

_jit: Any = torch.jit  # torch's own annotations leave out what it exports


class ScriptWatch(Protocol):
    """A session of forward passes whose activation calls are observed."""

    served: dict[CallSite, set[int]]
    """The numbers of the calls in the graph that are each site."""

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass over the arguments of a batch, already on their device."""

    def unmet(self) -> list[Skipped]:
        """The calls in the graph that no batch reached."""

    def has_met(self, path: str) -> bool:
        """Whether the activation module at `path` was called."""


class ProbeWatch:
    """Observes each activation call by the probe before it, which is nearly free."""

    def __init__(
        self,
        script: ScriptModule,
        register: Register,
        light: Probed,
        marked: Callable[[], Probed],
        tap: Tap = NO_TAP,
    ) -> None:
        """Use the probes of `light`; in passes whose number is a power of two, those of `marked` and the operator mode.

        Only these passes learn on which axes the features are, and they cost more.
        """
        self.served: dict[CallSite, set[int]] = {}
        self._script = script
        self._register = register
        self._tap = tap
        self._light = light
        self._marked = marked
        self._probes = light.probes
        self._provenance: Provenance | None = None
        self._layer = ""
        self._raised: BaseException | None = None

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass. Raises what the model raises; what the observer raises passes unchanged."""
        self._register.start_pass()
        audit = self._register.is_audit
        graph = self._marked() if audit else self._light
        self._probes, self._raised = graph.probes, None
        self._provenance = Provenance(arguments, batch.samples, batch.axis) if audit else None
        with ExitStack() as stack:
            if self._provenance is not None:
                stack.enter_context(following(self._provenance, lambda: self._layer or None))
            stack.enter_context(listening(self._on_probe))
            # A scripted encoder layer takes its fused path, where no relu is called, only without gradients.
            stack.enter_context(torch.set_grad_enabled(graph.fused_encoder or self._tap.is_on))
            if self._tap.is_on:  # what TorchScript differentiates itself is not in the graph of autograd
                stack.enter_context(_jit.optimized_execution(False))
            try:
                output = graph.run(self._script._c, *arguments)
            except Exception:
                if self._raised is not None:
                    raise self._raised from None
                raise
        self._register.end_pass()
        return output

    def unmet(self) -> list[Skipped]:
        """The calls whose branch no batch took."""
        out: dict[str, Skipped] = {}
        for probe in self._light.probes.values():
            if probe.spelling is not None and probe.arguments is not None:
                found = read_call(probe.spelling, (STAND_IN, *probe.arguments), {})
                if found is None:
                    continue
                op = found[0]
                if not self._register.has_met(probe.place.group(op)):
                    skipped = probe.place.never_called(op)
                    out[skipped.id] = skipped
        return list(out.values())

    def has_met(self, path: str) -> bool:
        """Whether the activation module at `path` was called."""
        return self._register.has_met(("module", path))

    def _on_probe(self, z: Tensor, number: int) -> None:
        """Observe the call. Keep an error of the observer, which would come back as one of torch's."""
        try:
            self._observe(self._probes[number], z)
        except BaseException as error:
            self._raised = error
            raise

    def _observe(self, probe: Probe, z: Tensor) -> None:
        path = probe.place.path
        if probe.fused is not None:
            self._register.skip(path or ROOT, "relu", fused_reason(probe.fused))
            return
        self._layer = path
        if probe.is_output:
            self._tap.leave(z)
        if probe.spelling is None:
            return
        if probe.arguments is None:
            op = probe.spelling if isinstance(probe.spelling, str) else probe.spelling.name
            self._register.skip(f"{path}:{op}", op, "its parameters are computed while the model runs")
            return

        # The mode is off while it handles the probe, and the half that a gate reads must not be lost.
        with following(self._provenance, lambda: None) if self._provenance is not None else nullcontext():
            calls = read_calls(probe.spelling, (z, *probe.arguments), {})
        for op, parameters, seen in calls:

            def context(seen: Tensor = seen) -> CallContext:
                axes = self._provenance.read(seen) if self._provenance is not None else None
                return CallContext(axes, probe.place.source)

            site = self._register.observe(probe.place.group(op), path, op, parameters, seen, context)
            if probe.node is not None:
                self.served.setdefault(site, set()).add(probe.node)


class DispatchWatch:
    """Watches every operator that the module calls, without its graph: slower, and sites have no paths."""

    def __init__(self, script: ScriptModule, register: Register) -> None:
        """Nothing runs yet."""
        self.served: dict[CallSite, set[int]] = {}
        self._script = script
        self._register = register

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass of the module itself."""
        self._register.start_pass()
        provenance = Provenance(arguments, batch.samples, batch.axis)
        gates = gates_of(self._script)

        def handle(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            spelling = spellings().get(function)
            for op, parameters, z in read_calls(spelling, args, kwargs) if spelling is not None else ():
                if op in gates:
                    if gates[op]:
                        self._register.skip(f":{op}", op, GATES_ALIKE)
                    continue

                def context(z: Tensor = z) -> CallContext:
                    return CallContext(provenance.read(z), None)

                self._register.observe(("call", "", op), "", op, parameters, z, context)
            output = function(*args, **kwargs)
            provenance.follow(function, args, kwargs, output, lambda: None)
            return output

        with torch.no_grad(), Operators(handle):
            output = self._script(*arguments)
        self._register.end_pass()
        return output

    def unmet(self) -> list[Skipped]:
        """Empty: without the graph, calls that do not run are unknown."""
        return []

    def has_met(self, path: str) -> bool:  # noqa: ARG002  the protocol's parameter
        """True: without the graph, no module can be found missing."""
        return True
