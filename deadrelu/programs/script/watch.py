"""Two ways to watch a TorchScript module run: by probes in a copy of its graph, and by the operators that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor

from deadrelu.activations import Leak
from deadrelu.programs.axes.provenance import Provenance, following
from deadrelu.programs.callsites import read_call, read_calls, read_leak, spellings
from deadrelu.programs.modes import Operators
from deadrelu.programs.program import ROOT, Batch, CallSite, Output
from deadrelu.programs.register import CallContext, Register
from deadrelu.programs.script.graph import Probe, Probed
from deadrelu.programs.script.nodes import ScriptModule
from deadrelu.programs.script.probe import listening
from deadrelu.report import Skipped


class ScriptWatch(Protocol):
    """A session of forward passes that are watched."""

    served: dict[CallSite, set[int]]
    """The calls in the graph, by number, that each site stands for."""

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass over the arguments of a batch, where they lie now."""

    def unmet(self) -> list[Skipped]:
        """What is in the graph and was never called."""

    def has_met(self, path: str) -> bool:
        """Whether the activation module at `path` was called."""


class ProbeWatch:
    """Hears of each activation call from the probe before it: nearly free."""

    def __init__(self, script: ScriptModule, register: Register, light: Probed, marked: Callable[[], Probed]) -> None:
        """Use the probes of `light`; on passes whose number is a power of two those of `marked`, with the operators.

        Only these passes learn where features lie, and they cost more.
        """
        self.served: dict[CallSite, set[int]] = {}
        self._script = script
        self._register = register
        self._light = light
        self._marked = marked
        self._probes = light.probes
        self._provenance: Provenance | None = None
        self._layer = ""
        self._pass = 0
        self._raised: BaseException | None = None

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass. Raises what the model raises, and what the observer raises as it is."""
        self._pass += 1
        audit = self._pass & (self._pass - 1) == 0 or self._register.is_waiting
        graph = self._marked() if audit else self._light
        self._probes, self._raised = graph.probes, None
        self._provenance = Provenance(arguments, batch.samples, batch.axis) if audit else None
        self._register.start_pass()
        with ExitStack() as stack:
            if self._provenance is not None:
                stack.enter_context(following(self._provenance, lambda: self._layer or None))
            stack.enter_context(listening(self._on_probe))
            # A scripted encoder layer takes its fused path, where no relu is called, only without gradients.
            stack.enter_context(torch.set_grad_enabled(graph.fused_encoder))
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
                found = read_call(probe.spelling, (torch.empty(0), *probe.arguments), {})
                if found is None:
                    continue  # it leaks
                op = found[0]
                if not self._register.has_met(probe.place.group(op)):
                    id = probe.place.path or ROOT if probe.place.is_module else f"{probe.place.path}:{op}"
                    out[id] = Skipped(id=id, op=op, reason="never called: no batch reached it")
        return list(out.values())

    def has_met(self, path: str) -> bool:
        """Whether the activation module at `path` was called."""
        return self._register.has_met(("module", path))

    def _on_probe(self, z: Tensor, number: int) -> None:
        """An error of the observer's would reach us as one of torch's: keep it."""
        try:
            self._hear(self._probes[number], z)
        except BaseException as error:
            self._raised = error
            raise

    def _hear(self, probe: Probe, z: Tensor) -> None:
        path = probe.place.path
        if probe.fused is not None:
            reason = f"fused into {probe.fused}: its pre-activation is never formed"
            self._register.skip(path or ROOT, "relu", reason)
            return
        self._layer = path
        if probe.spelling is None:
            return
        if probe.arguments is None:
            op = "relu" if isinstance(probe.spelling, Leak) else probe.operator.rstrip("_")
            self._register.skip(f"{path}:{op}", op, "its parameters are computed while the model runs")
            return
        found = read_call(probe.spelling, (z, *probe.arguments), {})
        leak = read_leak(probe.spelling, (z,), {}) if found is None else None

        def surroundings() -> CallContext:
            reading = self._provenance.read(z) if self._provenance is not None else None
            return CallContext(reading, probe.place.source)

        if leak is not None:
            self._register.observe(probe.place.group(leak[0]), path, leak[0], (), z, surroundings, leaky=True)
        if found is None:
            return
        op, parameters, _ = found
        site = self._register.observe(probe.place.group(op), path, op, parameters, z, surroundings)
        if probe.node is not None:
            self.served.setdefault(site, set()).add(probe.node)


class DispatchWatch:
    """Sees every operator that the module calls, and needs nothing of its graph: no paths, and a slower pass."""

    def __init__(self, script: ScriptModule, register: Register) -> None:
        """Nothing runs yet."""
        self.served: dict[CallSite, set[int]] = {}
        self._script = script
        self._register = register

    def run(self, arguments: Sequence[Any], batch: Batch) -> Output:
        """One forward pass of the module itself."""
        self._register.start_pass()
        provenance = Provenance(arguments, batch.samples, batch.axis)

        def handle(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            spelling = spellings().get(function)
            found = read_calls(spelling, args, kwargs) if spelling is not None else []
            leak = read_leak(spelling, args, kwargs) if spelling is not None and not found else None
            for op, parameters, z in [*found, *([(leak[0], (), leak[1])] if leak is not None else [])]:

                def surroundings(z: Tensor = z) -> CallContext:
                    return CallContext(provenance.read(z), None)

                group = ("call", "", op)
                self._register.observe(group, "", op, parameters, z, surroundings, leaky=leak is not None)
            output = function(*args, **kwargs)
            provenance.follow(function, args, kwargs, output, lambda: None)
            return output

        with torch.no_grad(), Operators(handle):
            output = self._script(*arguments)
        self._register.end_pass()
        return output

    def unmet(self) -> list[Skipped]:
        """Nothing is known of what does not run."""
        return []

    def has_met(self, path: str) -> bool:  # noqa: ARG002  the protocol's parameter
        """The paths are not known, so that nothing can be missed."""
        return True
