"""Recovers the module paths of a TorchScript graph, which inlining loses.

Methods are walked as inlining expands them, and each operator gets the path of the walk. The module is not changed. The
graph API is private to torch (seen on 2.13.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, reduce

import torch

from deadrelu.programs.axes.operators import makes_features
from deadrelu.programs.script.nodes import (
    COMPOSED,
    ScriptGraph,
    ScriptModule,
    ScriptNode,
    UnknownValueError,
    attribute_names,
    is_spelling,
    script_operator,
    walk_nodes,
)


def operator_paths(script: ScriptModule) -> list[str]:
    """For each aten node of the inlined graph, in order, the path of the module whose forward makes the call.

    In a method other than forward, this is the module that called it, as in eager mode. Activations and layers have
    paths; other nodes have none. Neither kind has any if the walk meets other nodes of that kind than inlining does (a
    module behind an interface; code that torch simplifies on its way).
    """
    inlined = [operator for node in walk_nodes(script.inlined_graph) if (operator := script_operator(node))]
    try:
        walked = list(_walk(script, "", "", "forward", is_root=True))
    except (UnknownValueError, AttributeError):
        walked = []
    paths = [""] * len(inlined)
    for is_wanted in (_is_activation, COMPOSED.__contains__, makes_features):
        places = [place for place, name in enumerate(inlined) if is_wanted(name)]
        found = [(name, path) for name, path in walked if is_wanted(name)]
        if [name for name, _ in found] == [inlined[place] for place in places]:
            for place, (_, path) in zip(places, found, strict=True):
                paths[place] = path
    return paths


@cache
def _is_activation(operator: str) -> bool:
    return "relu" in operator or is_spelling(operator)


def _walk(script: ScriptModule, path: str, at: str, method: str, *, is_root: bool) -> Iterator[tuple[str, str]]:
    """The operators of a method of the module at `path`, each with the path of the innermost forward.

    Inlining uses the simplified form of every method but the root's.
    """
    owner = reduce(getattr, path.split("."), script) if path else script
    graph = owner._c._get_method(method).graph
    if not is_root:
        graph = graph.copy()
        _simplify(graph)
    for node in walk_nodes(graph):
        if node.kind() == "prim::CallMethod":
            name = node.s("name")
            inner = ".".join(filter(None, [path, *attribute_names(node.inputsAt(0).node())]))
            yield from _walk(script, inner, inner if name.startswith("forward") else at, name, is_root=False)
        elif node.kind() == "prim::CallFunction":
            yield from ((operator, at) for operator in _operators_of(node, is_root=is_root))
        elif operator := script_operator(node):
            yield operator, at


def _operators_of(call: ScriptNode, *, is_root: bool) -> list[str]:
    """The operators of a function, by inlining a graph that only calls it."""
    graph: ScriptGraph = torch._C.Graph()
    inputs = {}
    for value in call.inputs():
        if value.node().kind() == "prim::Constant":
            copied = graph.insertNode(graph.createClone(value.node(), lambda v: v))
            inputs[value.debugName()] = copied.output()
        else:
            inputs[value.debugName()] = graph.addInput().setType(value.type())
    made = graph.insertNode(graph.createClone(call, lambda value: inputs[value.debugName()]))
    graph.registerOutput(made.output())
    torch._C._jit_pass_inline(graph)
    if not is_root:
        _simplify(graph)
    return [operator for node in walk_nodes(graph) if (operator := script_operator(node))]


def _simplify(graph: ScriptGraph) -> None:
    """Remove the branches that are never taken."""
    torch._C._jit_pass_constant_propagation(graph)
