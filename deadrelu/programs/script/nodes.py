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

Graph = Any
Node = Any
Value = Any
Script = Any
"""Torch gives its graph classes no annotations."""

_ACTIVATION = re.compile(r"__torch__\.torch\.nn\.modules\.activation\.(?:___torch_mangle_\d+\.)?(\w+)")
_CLASSES = {kind.module: kind for kind in KINDS}


class UnknownValueError(Exception):
    """A value of the graph that is known only while it runs."""


def nodes(block: Any) -> Iterator[Node]:
    """Every node of a graph or block, in the order of execution, with those of the branches and loops in it."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


def layer_path(node: Node) -> str:
    """The path of the module that owns the weight of a layer; "" where none does."""
    for value in node.inputs():
        try:
            if path := ".".join(attribute_names(value.node())[:-1]):
                return path
        except UnknownValueError:
            continue
    return ""


def calls(graph: Graph) -> list[Node]:
    """The nodes that may be activation calls; a list, since editing a graph invalidates what walks it."""
    return [node for node in nodes(graph) if spelling_of(node) is not None]


def spelling_of(node: Node) -> Spelling | None:
    """What the node's operator spells, if it may be an activation call of one tensor."""
    if not node.inputsSize() or is_of_lists(node):
        return None
    return spellings().get(getattr(torch.ops.aten, operator_of(node), None))


def is_of_lists(node: Node) -> bool:
    """Whether the operator works on lists of tensors."""
    return operator_of(node).startswith("_foreach_")


def is_spelling(operator: str) -> bool:
    """Whether the aten operator of this name may be an activation call of one tensor."""
    return not operator.startswith("_foreach_") and spellings().get(getattr(torch.ops.aten, operator, None)) is not None


def operator_of(node: Node) -> str:
    """The name of an aten operator; "" for every other node."""
    return str(node.kind()).removeprefix("aten::") if node.kind().startswith("aten::") else ""


def place_at(script: Script, node: Node, path: str) -> Place:
    """The place of an activation call in the forward of the module at `path`."""
    is_module = is_activation(script, path)
    return Place(path, is_module, None if is_module else source_in(script_frames(str(node.sourceRange()))))


def activation_modules(script: Script) -> Iterator[tuple[str, Script]]:
    """Path and module of every activation module of torch.nn, under every name that it has."""
    yield from ((path, module) for path, module in script.named_modules() if class_of(module) is not None)


def is_activation(script: Script, path: str) -> bool:
    """Whether the module at `path` was made from an activation class of torch.nn's own."""
    try:
        return class_of(reduce(getattr, path.split("."), script) if path else script) is not None
    except AttributeError:
        return False


def op_of(module: Script) -> str | None:
    """The activation that a scripted or traced module applies; None if it leaks, or was made from another class.

    A trace forgets the slope of a module that it did not call, and then nothing is known of it.
    """
    kind = _CLASSES.get(class_of(module) or "")
    if not isinstance(kind, Leak):
        return None if kind is None else kind.name
    found = leak_of([getattr(module, attribute, None) for attribute in kind.defaults])
    return None if found is None else found[0]


def class_of(module: Script) -> str | None:
    """The activation class of torch.nn from which a scripted or traced module was made; None if it was another."""
    found = _ACTIVATION.fullmatch(module._c._type().qualified_name())
    return found[1] if found is not None and found[1] in _CLASSES else None


def value_of(value: Value, script: Script) -> Any:
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
        return [value_of(inner, script) for inner in node.inputs()]
    raise UnknownValueError


def trains(script: Script) -> bool:
    """Whether tracing has written training mode into the graph, where `eval` cannot reach it."""
    flags = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2}
    return any(
        (place := flags.get(node.kind())) is not None
        and node.inputsAt(place).node().kind() == "prim::Constant"
        and node.inputsAt(place).toIValue() is True
        for node in nodes(script.inlined_graph)
    )


def constants(graph: Graph) -> Iterator[Tensor]:
    """The tensors that are written into the graph itself, as freezing does with the weights."""
    for node in nodes(graph):
        if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), Tensor):
            yield value


def attribute_names(node: Node) -> list[str]:
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
