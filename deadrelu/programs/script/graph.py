"""Edits the graph of a TorchScript module: inserts probes before its activation calls, or replaces these.

The graph API is private to torch (seen on 2.13.0). The canary in `tests/programs/test_torchscript.py` lists the parts
that are used; without them a program falls back to `DispatchWatch`, which needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deadrelu.activations import ACTIVATIONS
from deadrelu.programs.axes.operators import makes_features
from deadrelu.programs.callsites import STAND_IN, Spelling, read_call, read_calls, spellings
from deadrelu.programs.register import Place
from deadrelu.programs.script.nodes import (
    COMPOSED,
    ScriptGraph,
    ScriptModule,
    ScriptNode,
    ScriptValue,
    UnknownValueError,
    is_of_lists,
    is_spelling,
    known_value,
    layer_path,
    place_at,
    script_activation_nodes,
    script_operator,
    spelling_of,
    walk_nodes,
)
from deadrelu.programs.script.paths import operator_paths
from deadrelu.programs.script.probe import KIND
from deadrelu.programs.special_operators import FUSED
from deadrelu.programs.substitutes import Substitute

_KNOWN = frozenset(operator for kind in ACTIVATIONS for operator in kind.operators)


@dataclass(frozen=True)
class Probe:
    """A probe before an activation call (`spelling`), an operator with a fused one (`fused`), or a layer.

    Or it `is_output`: behind an activation call.

    `node` numbers the activation calls of the graph from 0, before anything is removed from it; None for the others.
    `arguments` are those of the call after its input; None if they are not constant.
    """

    place: Place
    node: int | None = None
    operator: str = ""
    spelling: Spelling | None = None
    arguments: tuple[Any, ...] | None = ()
    fused: str | None = None
    is_output: bool = False


@dataclass(frozen=True)
class Probed:
    """A function `run(script._c, *inputs)` equal to the module, and the probes in it by number.

    `calls` are the numbers of all calls that are left in the graph, even if they turned out not to be activations.
    """

    run: Any
    calls: tuple[int, ...]
    probes: Mapping[int, Probe]
    fused_encoder: bool

    def operator(self, number: int) -> str:
        """The name of the operator of the activation call with this number."""
        return next(probe.operator for probe in self.probes.values() if probe.node == number)


def call_places(script: ScriptModule) -> list[Place]:
    """The place of each activation call of the module's inlined graph, in order."""
    paths = operator_paths(script)
    found = [node for node in walk_nodes(script.inlined_graph) if script_operator(node)]
    return [
        place_at(script, node, path) for node, path in zip(found, paths, strict=True) if spelling_of(node) is not None
    ]


def probe_graph(
    script: ScriptModule,
    known: Sequence[Place],
    *,
    marked: bool,
    device: torch.device | None = None,
    outputs: bool = False,
) -> Probed:
    """A copy of the module's forward with a probe before each activation call and, if `marked`, before each layer.

    With `outputs` there is one behind each activation call too.
    `known` are the places of its calls. Branches that are never taken (`if inplace:`) are removed with their probes.
    """
    graph = script.inlined_graph.copy()
    inserted = _insert_probes(graph, script, known, marked=marked, outputs=outputs)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_dce(graph)
    left: dict[int, Probe] = {}
    found: list[int] = []
    for node in [node for node in walk_nodes(graph) if node.kind() == KIND]:
        number = node.inputsAt(1).toIValue()
        if (call := inserted[number].node) is not None:
            found.append(call)
        probe = _with_arguments(inserted[number], node, script)
        if probe is not None:
            left[number] = probe
        else:
            node.output().replaceAllUsesWith(node.inputsAt(0))
            node.destroy()
    if device is not None:
        _move_constants(graph, device)
    encoder = any("_transformer_encoder_layer_fwd" in node.kind() for node in walk_nodes(graph))
    return Probed(torch._C._create_function_from_graph("probed", graph), tuple(found), left, encoder)


def _insert_probes(
    graph: ScriptGraph, script: ScriptModule, known: Sequence[Place], *, marked: bool, outputs: bool = False
) -> dict[int, Probe]:
    """Insert the probes; returns them by number.

    No reference to a node may outlive this call: torch reuses the address of a deleted node, and Python would mistake
    the new node for the old one.
    """
    inserted: dict[int, Probe] = {}

    def of(value: ScriptValue, node: ScriptNode, probe: Probe) -> ScriptNode:
        number = len(inserted)
        inserted[number] = probe
        with graph.insert_point_guard(node):
            place = graph.insertConstant(number)
            passed = graph.create(KIND, [value, place], 1)
        passed.output().setType(value.type())
        return passed

    def insert(node: ScriptNode, index: int, probe: Probe) -> None:
        passed = of(node.inputsAt(index), node, probe)
        passed.insertBefore(node)
        node.replaceInput(index, passed.output())

    def append(node: ScriptNode, probe: Probe) -> None:
        passed = of(node.output(), node, probe)
        passed.insertAfter(node)
        node.output().replaceAllUsesAfterNodeWith(passed, passed.output())

    remaining, path = iter(known), iter(operator_paths(script))
    call = 0
    for node in list(walk_nodes(graph)):
        operator = script_operator(node)
        here = next(path) if operator else ""
        takes = next((i for i, value in enumerate(node.inputs()) if _is_tensor(value)), None)
        if spelling_of(node) is not None:
            insert(node, 0, Probe(next(remaining), call, operator, spelling_of(node)))
            call += 1
            if outputs:
                append(node, Probe(Place(here, False, None), is_output=True))
        elif is_of_lists(node) and (first := _first_of_list(node, script)) is not None:
            insert(first, 0, Probe(Place(here, False, None), fused=node.kind()))
        elif takes is not None and _is_fused(node):
            insert(node, takes, Probe(Place(here, False, None), fused=node.kind()))
        elif takes is not None and marked and operator and makes_features(operator):
            insert(node, takes, Probe(Place(here or layer_path(node), False, None)))
    return inserted


def rewrite_script(script: ScriptModule, wanted: Mapping[int, Sequence[Substitute]]) -> list[int]:
    """Replace the calls with these numbers by other operators, in the module's own graph.

    The graph is inlined first, so that one call of a shared module can change alone. Returns the numbers of the calls
    that are left, in their new order. Must come before the module's first own call, whose compiled code torch keeps.
    """
    numbers = probe_graph(script, call_places(script), marked=False).calls
    graph = script.graph
    torch._C._jit_pass_inline(graph)
    found = dict(enumerate(script_activation_nodes(graph)))
    for number, chain in wanted.items():
        node = found.pop(number)  # the reference must not outlive the node: see `_insert_probes`
        output = node.inputsAt(0)
        for call in chain:
            with graph.insert_point_guard(node):
                arguments = [graph.insertConstant(value) for value in call.arguments.values()]
                made = graph.create(f"aten::{call.operator}", [output, *arguments], 1)
            made.output().setType(node.output().type())
            made.insertBefore(node)
            made.copyMetadata(node)
            output = made.output()
        node.output().replaceAllUsesWith(output)
        node.destroy()
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_dce(graph)
    gone = {number for number, chain in wanted.items() if not any(is_spelling(call.operator) for call in chain)}
    return [number for number in numbers if number not in gone]


def _with_arguments(probe: Probe, node: ScriptNode, script: ScriptModule) -> Probe | None:
    """The probe with the arguments of the call after it; None if that is a clamp that is not an activation."""
    if probe.spelling is None or probe.operator in COMPOSED:
        return probe
    call = node.output().uses()[0].user
    try:
        arguments = tuple(known_value(value, script) for value in list(call.inputs())[1:])
    except UnknownValueError:
        # A clamp at a computed bound guards a number. The others may be flat, whatever is computed.
        return None if isinstance(probe.spelling, str) else replace(probe, arguments=None)
    is_call = read_call(probe.spelling, (STAND_IN, *arguments), {}) is not None
    return replace(probe, arguments=arguments) if is_call else None


def _first_of_list(node: ScriptNode, script: ScriptModule) -> ScriptNode | None:
    """The node that makes the list on which a clamp at zero works; None for any other node."""
    source = node.inputsAt(0).node()
    try:
        bound = known_value(node.inputsAt(1), script)
    except UnknownValueError:
        return None
    spelling = spellings().get(getattr(torch.ops.aten, script_operator(node), None))
    is_list = source.kind() == "prim::ListConstruct" and source.inputsSize() > 0
    return source if spelling is not None and is_list and read_calls(spelling, ([STAND_IN], bound), {}) else None


def _is_fused(node: ScriptNode) -> bool:
    name = str(node.kind()).partition("::")[2]
    return name in FUSED or ("relu" in name and name not in _KNOWN and not node.kind().startswith("prim::"))


def _is_tensor(value: ScriptValue) -> bool:
    return bool(value.type().isSubtypeOf(torch._C.TensorType.get()))


def _move_constants(graph: ScriptGraph, device: torch.device) -> None:
    """Move weights that freezing wrote into the graph to the device."""
    for node in walk_nodes(graph):
        if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), Tensor):
            node.t_("value", value.to(device))
