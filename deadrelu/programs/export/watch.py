"""Watches a torch.export program run, node by node and inside its branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.fx import GraphModule, Interpreter, Node

from deadrelu.activations import STANDINS
from deadrelu.flatness import Parameters
from deadrelu.programs.axes.provenance import Provenance, following
from deadrelu.programs.callsites import STAND_IN, read_call, read_calls
from deadrelu.programs.export.batchsize import PaddedRows
from deadrelu.programs.export.graph import (
    activation_nodes,
    export_operator,
    place_of,
    spelling_in,
    weight_or_argument,
)
from deadrelu.programs.modes import without_modes
from deadrelu.programs.program import ROOT, CallSite, site_id
from deadrelu.programs.register import CallContext, Place, Register
from deadrelu.programs.special_operators import FUSED, fused_reason
from deadrelu.programs.tap import NO_TAP, Tap
from deadrelu.report import Skipped


class ExportWatch:
    """A session of forward passes whose activation calls are observed."""

    def __init__(self, module: GraphModule, register: Register, gradients: Tap = NO_TAP) -> None:
        """Nothing runs yet. `gradients` taps every call that is observed, and a `tap` the leaky ones."""
        self.gradients = gradients
        self.served: dict[CallSite, set[int]] = {}
        self._short: dict[tuple[Place, str, int], None] = {}
        self._module = module
        self._register = register
        self._numbers = {node: number for number, (_, node) in enumerate(activation_nodes(module))}
        self._places: dict[Node, Place] = {}
        self._provenance: Provenance | None = None
        self._layer = ""
        self._rows = PaddedRows(0, 0)
        self._rehearsed: list[Tensor] = []
        self._is_rehearsing = False
        self._compared = 0
        self.tap: Callable[[CallSite, Tensor], Tensor] | None = None

    def run(self, leaves: list[Any], rows: PaddedRows) -> Any:
        """One forward pass over flattened inputs, of which only `rows` are real; returns the flattened outputs.

        In passes whose number is a power of two the operators are tracked too, to learn on which axes the features are.
        With a `tap` the pass has gradients, and what a ReLU may have been swapped for works on what the tap returns.
        """
        self._rows = rows
        self._compared = 0
        self._register.start_pass()
        audit = self._register.is_audit and self.tap is None
        self._provenance = Provenance(leaves, rows.all) if audit else None
        following_operators = following(self._provenance, lambda: self._layer or None) if self._provenance else None
        with torch.set_grad_enabled(self.tap is not None or self.gradients.is_on), following_operators or nullcontext():
            output = _Runner(self._module, self, "").run(*leaves, enable_io_processing=False)
        self._register.end_pass()
        return output

    def rehearse(self, leaves: list[Any], rows: PaddedRows) -> None:
        """Run once without observing, and keep the pre-activations that the next run must find again in the real rows.

        The padded rows have other values in the next run, so what differs depends on them and not only on the samples.
        """
        self._rows, self._rehearsed, self._is_rehearsing = rows, [], True
        try:
            with torch.no_grad():
                _Runner(self._module, self, "").run(*leaves, enable_io_processing=False)
        finally:
            self._is_rehearsing = False

    def unmet(self) -> list[Skipped]:
        """The calls that no batch reached."""
        out: dict[str, Skipped] = {}
        for owner, node in activation_nodes(self._module):
            known = {key: value for key, value in node.kwargs.items() if key != "self"}
            arguments = [weight_or_argument(owner, value) for value in node.args[1:]]
            spelling = spelling_in(node)
            found = read_call(spelling, (STAND_IN, *arguments), known) if spelling is not None else None
            place = self._places.get(node) or place_of(node)
            was_short = found is not None and any((at, op) == (place, found[0]) for at, op, _ in self._short)
            if found is not None and not was_short and not self._register.has_met(place.group(found[0])):
                skipped = place.never_called(found[0])
                out[skipped.id] = skipped
        return list(out.values())

    def short(self) -> Iterator[tuple[str, str, bool]]:
        """The calls that had a batch left out since its padded rows could not be told from the others.

        Each with its id, its activation, and whether other batches were measured.
        """
        for place, op, number in self._short:
            calls = self._register.calls(place.group(op))
            site = calls.sites.get(number)
            counted = site_id(place.path, op, number, calls.group.calls, functional=not place.is_module)
            yield site.id if site else counted, op, site is not None

    def enter(self, node: Node, outer: str) -> str:
        """Record which layer runs now; returns its path."""
        place = self._places.get(node)
        if place is None:
            place = self._places[node] = place_of(node, outer)
        self._layer = place.path
        if (name := export_operator(node)) in FUSED:
            self._register.skip(place.path or ROOT, "relu", fused_reason(name))
        return place.path

    def observe(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Observe the node if it is an activation call; returns the arguments to call it with."""
        spelling = spelling_in(node)
        if spelling is None:
            return args
        for op, parameters, z in read_calls(spelling, args, kwargs):
            site = self._observe(node, op, parameters, z)
            if self.tap is not None and site is not None and op in STANDINS and args:
                return (self.tap(site, z), *args[1:])
        return args

    def _context(self, place: Place, z: Tensor) -> CallContext:
        return CallContext(self._provenance.read(z) if self._provenance is not None else None, place.source)

    def _observe(self, node: Node, op: str, parameters: Parameters, z: Tensor) -> CallSite | None:
        place = self._places[node]
        if self._is_rehearsing:
            if (rehearsed := self._rows.of(z)) is not None:
                self._rehearsed.append(rehearsed.clone())
            return None
        real = self._own(z)
        if real is None:
            self._short[place, op, self._register.count_unobserved(place.group(op))] = None
            return None
        context = lambda: self._context(place, z)  # noqa: E731  it has no other name
        with without_modes() if self._provenance is not None else nullcontext():  # what we compute is not the model's
            site = self._register.observe(place.group(op), place.path, op, parameters, real, context)
        self.served.setdefault(site, set()).add(self._numbers[node])
        if site.obstacle is None:
            self.gradients.enter(site, z, self._rows.of)
        return site

    def _own(self, z: Tensor) -> Tensor | None:
        """The rows of the real samples; None where they cannot be told from padded ones."""
        real = self._rows.of(z)
        if self._rows.real == self._rows.all or real is None:
            return real
        self._compared += 1
        before = self._rehearsed[self._compared - 1] if self._compared <= len(self._rehearsed) else real.new_empty(0)
        return real if _alike(before, real) else None

    def nested(self, module: GraphModule, outer: str) -> Any:
        """The graph of a branch as a function that is watched too."""

        def call(*operands: Any) -> Any:
            return _Runner(module, self, outer).run(*operands, enable_io_processing=False)

        return call


class _Runner(Interpreter):
    """Runs one graph and passes each call to the watch."""

    def __init__(self, module: GraphModule, watch: ExportWatch, outer: str) -> None:
        super().__init__(module)
        self._watch = watch
        self._outer = outer

    def run_node(self, n: Node) -> Any:
        """Run a node. The watch gets it first, since it may work in place."""
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        path = self._watch.enter(n, self._outer)
        if isinstance(n.target, HigherOrderOperator):
            inside = [self._watch.nested(a, path) if isinstance(a, GraphModule) else a for a in args]
            return _higher_order(n.target, inside, dict(kwargs))
        args = self._watch.observe(n, args, kwargs)
        return self._watch.gradients.left(n.target(*args, **kwargs))  # type: ignore[operator]  # a call_function's target is called


def _higher_order(target: HigherOrderOperator, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call an operator that takes graphs. Common ones are written out: dispatch modes do not reach into them."""
    name = target.name()
    if name == "cond":
        predicate, if_true, if_false, operands = args[:4]
        chosen = if_true if _truth(predicate) else if_false
        return chosen(*operands)
    if name == "wrap_with_set_grad_enabled":
        with torch.set_grad_enabled(bool(args[0]) and torch.is_grad_enabled()):
            return args[1](*args[2:])
    with without_modes():
        return target(*args, **kwargs)


def _truth(predicate: Any) -> bool:
    return bool(predicate.item() if isinstance(predicate, Tensor) else predicate)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two pre-activations are equal up to rounding."""
    if a.is_quantized:
        a, b = a.dequantize(), b.dequantize()
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
