"""Reads the graph of a TorchScript module: where each node stands, and what is known of it before it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from deadrelu.activations import KINDS, Leak
from deadrelu.programs.callsites import Spelling, leak_of, spellings
from deadrelu.programs.register import Place
from deadrelu.programs.tracebacks import script_frames, source_in

ScriptGraph = Any
ScriptNode = Any
ScriptValue = Any
ScriptModule = Any
"""Torch gives its graph classes no annotations."""

_ACTIVATION = re.compile(r"__torch__\.torch\.nn\.modules\.activation\.(?:___torch_mangle_\d+\.)?(\w+)")
_CLASSES = {kind.module: kind for kind in KINDS}


class UnknownValueError(Exception):
    """A value of the graph that is known only while it runs."""


def walk_nodes(block: Any) -> Iterator[ScriptNode]:
    """Every node of a graph or block, in the order of execution, with those of the branches and loops in it."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from walk_nodes(inner)


def layer_path(node: ScriptNode) -> str:
    """The path of the module that owns the weight of a layer; "" where none does."""
    for value in node.inputs():
        try:
            if path := ".".join(attribute_names(value.node())[:-1]):
                return path
        except UnknownValueError:
            continue
    return ""


def script_activation_nodes(graph: ScriptGraph) -> list[ScriptNode]:
    """The nodes that may be activation calls; a list, since editing a graph invalidates what walks it."""
    return [node for node in walk_nodes(graph) if spelling_of(node) is not None]


def spelling_of(node: ScriptNode) -> Spelling | None:
    """What the node's operator spells, if it may be an activation call of one tensor."""
    if not node.inputsSize() or is_of_lists(node):
        return None
    return spellings().get(getattr(torch.ops.aten, script_operator(node), None))


def is_of_lists(node: ScriptNode) -> bool:
    """Whether the operator works on lists of tensors."""
    return script_operator(node).startswith("_foreach_")


def is_spelling(operator: str) -> bool:
    """Whether the aten operator of this name may be an activation call of one tensor."""
    return not operator.startswith("_foreach_") and spellings().get(getattr(torch.ops.aten, operator, None)) is not None


def script_operator(node: ScriptNode) -> str:
    """The name of an aten operator; "" for every other node."""
    return str(node.kind()).removeprefix("aten::") if node.kind().startswith("aten::") else ""


def place_at(script: ScriptModule, node: ScriptNode, path: str) -> Place:
    """The place of an activation call in the forward of the module at `path`."""
    is_module = is_activation(script, path)
    return Place(path, is_module, None if is_module else source_in(script_frames(str(node.sourceRange()))))


def activation_modules(script: ScriptModule) -> Iterator[tuple[str, ScriptModule]]:
    """Path and module of every activation module of torch.nn, under every name that it has."""
    yield from ((path, module) for path, module in script.named_modules() if activation_class(module) is not None)


def is_activation(script: ScriptModule, path: str) -> bool:
    """Whether the module at `path` was made from an activation class of torch.nn's own."""
    try:
        return activation_class(reduce(getattr, path.split("."), script) if path else script) is not None
    except AttributeError:
        return False


def op_of(module: ScriptModule) -> str | None:
    """The activation that a scripted or traced module applies; None if it leaks, or was made from another class.

    A trace forgets the slope of a module that it did not call, and then nothing is known of it.
    """
    kind = _CLASSES.get(activation_class(module) or "")
    if not isinstance(kind, Leak):
        return None if kind is None else kind.name
    found = leak_of([getattr(module, attribute, None) for attribute in kind.defaults])
    return None if found is None else found[0]


def activation_class(module: ScriptModule) -> str | None:
    """The activation class of torch.nn from which a scripted or traced module was made; None if it was another."""
    found = _ACTIVATION.fullmatch(module._c._type().qualified_name())
    return found[1] if found is not None and found[1] in _CLASSES else None


def known_value(value: ScriptValue, script: ScriptModule) -> Any:
    """A value that is known before the graph runs: a constant, an attribute of the module, or a list of these.

    Raises `UnknownValueError` for every other.
    """
    node = value.node()
    if node.kind() == "prim::Constant":
        return value.toIValue()
    if node.kind() == "prim::GetAttr":
        try:
            return reduce(getattr, attribute_names(node), script)
        except AttributeError as error:
            raise UnknownValueError from error
    if node.kind() == "prim::ListConstruct":
        return [known_value(inner, script) for inner in node.inputs()]
    raise UnknownValueError


def traced_in_training(script: ScriptModule) -> bool:
    """Whether tracing has written training mode into the graph, where `eval` cannot reach it."""
    flags = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2}
    return any(
        (place := flags.get(node.kind())) is not None
        and node.inputsAt(place).node().kind() == "prim::Constant"
        and node.inputsAt(place).toIValue() is True
        for node in walk_nodes(script.inlined_graph)
    )


def constants(graph: ScriptGraph) -> Iterator[Tensor]:
    """The tensors that are written into the graph itself, as freezing does with the weights."""
    for node in walk_nodes(graph):
        if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), Tensor):
            yield value


def attribute_names(node: ScriptNode) -> list[str]:
    """The attribute names from `self` down to what the node gives; none for `self` itself.

    Raises `UnknownValueError` where it comes from elsewhere.
    """
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.insert(0, node.s("name"))
        node = node.inputsAt(0).node()
    if node.kind() != "prim::Param":
        raise UnknownValueError
    return names
