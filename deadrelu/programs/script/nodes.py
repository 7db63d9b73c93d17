"""Reads the graph of a TorchScript module: the place of each node, and the values known before it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from functools import reduce
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deadrelu.activations import ACTIVATIONS, BY_NAME
from deadrelu.programs.callsites import Spelling, activation_of, spellings
from deadrelu.programs.register import Place
from deadrelu.programs.special_operators import RECURRENT, TRAINING_FLAGS
from deadrelu.programs.tracebacks import script_frames, source_in

ScriptGraph = Any
ScriptNode = Any
ScriptValue = Any
ScriptModule = Any
"""Torch's graph classes have no annotations."""

_ACTIVATION = re.compile(r"__torch__\.torch\.nn\.modules\.activation\.(?:___torch_mangle_\d+\.)?(\w+)")
_CLASSES = {kind.module: kind for kind in ACTIVATIONS}

COMPOSED = {"sub": "tanhshrink", "div": "softsign"}
"""The last operators of the activations that torch makes of several."""

_RECURRENT_LAYERS = ("lstm", "gru", "rnn_tanh", "lstm_cell", "gru_cell", "rnn_tanh_cell")
_GATES: MutableMapping[ScriptModule, Mapping[str, bool]] = WeakKeyDictionary()

GATES_ALIKE = "a recurrent layer in the same scripted code calls it for its gates: the calls cannot be told apart"
"""Why an activation of scripted code is skipped whose operators alone are seen."""


class UnknownValueError(Exception):
    """Raised for a value of the graph that is known only while it runs."""


def walk_nodes(block: Any) -> Iterator[ScriptNode]:
    """Every node of a graph or block, in the order of execution, including those in branches and loops."""
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
    """The nodes that may be activation calls; a list, since editing a graph invalidates its iterators."""
    return [node for node in walk_nodes(graph) if spelling_of(node) is not None]


def spelling_of(node: ScriptNode) -> Spelling | None:
    """The spelling of the node's operator, if it may be an activation call of one tensor."""
    if not node.inputsSize() or is_of_lists(node):
        return None
    operator = script_operator(node)
    if operator in COMPOSED:
        return BY_NAME[COMPOSED[operator]] if _is_composed(node, operator) else None
    if operator == "tanh" and any(_is_composed(use.user, "sub") for use in node.output().uses()):
        return None
    if operator.rstrip("_") in RECURRENT and _is_of_cell(node):
        return None
    return spellings().get(getattr(torch.ops.aten, operator, None))


def _is_of_cell(node: ScriptNode) -> bool:
    """Whether torch's own code of a recurrent cell makes the call: a trace has that in operators."""
    frame = next(iter(script_frames(str(node.sourceRange()))), None)
    return frame is not None and Path(frame[0]).parts[-4:] == ("torch", "nn", "modules", "rnn.py")


def _is_composed(node: ScriptNode, operator: str) -> bool:
    """Whether a node ends what torch makes of a Tanhshrink, x - tanh(x), or of a Softsign, x / (|x| + 1)."""
    if script_operator(node) != operator:
        return False
    x, inner = node.inputsAt(0), node.inputsAt(1).node()
    if operator == "div" and script_operator(inner) == "add":
        one, inner = inner.inputsAt(1), inner.inputsAt(0).node()
        if one.node().kind() != "prim::Constant" or one.toIValue() != 1:
            return False
    wanted = {"sub": "tanh", "div": "abs"}[operator]
    return script_operator(inner) == wanted and inner.inputsAt(0).debugName() == x.debugName()


def is_of_lists(node: ScriptNode) -> bool:
    """Whether the operator works on lists of tensors."""
    return script_operator(node).startswith("_foreach_")


def is_spelling(operator: str) -> bool:
    """Whether the aten operator of this name may be an activation call of one tensor."""
    return not operator.startswith("_foreach_") and spellings().get(getattr(torch.ops.aten, operator, None)) is not None


def gates_of(script: ScriptModule) -> Mapping[str, bool]:
    """The activations that recurrent layers of torch call in this module, for their gates; none without such a layer.

    Each with whether other code of the module calls it too: among the operators that run these calls look alike.
    """
    found = _GATES.get(script)
    if found is None:
        nodes = list(walk_nodes(script.inlined_graph))
        runs_gates = any(script_operator(node) in _RECURRENT_LAYERS or _is_of_cell(node) for node in nodes)
        own = {script_operator(node).rstrip("_") for node in nodes if not _is_of_cell(node)}
        found = _GATES[script] = {op: op in own for op in RECURRENT} if runs_gates else {}
    return found


def script_operator(node: ScriptNode) -> str:
    """The name of an aten operator; "" for any other node."""
    return str(node.kind()).removeprefix("aten::") if node.kind().startswith("aten::") else ""


def place_at(script: ScriptModule, node: ScriptNode, path: str) -> Place:
    """The place of an activation call in the forward of the module at `path`."""
    is_module = is_activation(script, path)
    return Place(path, is_module, None if is_module else source_in(script_frames(str(node.sourceRange()))))


def activation_modules(script: ScriptModule) -> Iterator[tuple[str, ScriptModule]]:
    """Path and module of every activation module of torch.nn, under each of its names."""
    yield from ((path, module) for path, module in script.named_modules() if activation_class(module) is not None)


def is_activation(script: ScriptModule, path: str) -> bool:
    """Whether the module at `path` was made from an activation class of torch.nn."""
    try:
        return activation_class(reduce(getattr, path.split("."), script) if path else script) is not None
    except AttributeError:
        return False


def op_of(module: ScriptModule) -> str | None:
    """The activation that a scripted or traced module applies; None if it was made from another class."""
    kind = _CLASSES.get(activation_class(module) or "")
    if kind is None:
        return None
    # A trace loses the parameters of what it does not call.
    found = activation_of(kind, [getattr(module, attribute, None) for attribute in kind.defaults])
    return kind.name if found is None else found[0]


def activation_class(module: ScriptModule) -> str | None:
    """The name of the activation class of torch.nn from which a module was made; None if it was another class."""
    found = _ACTIVATION.fullmatch(module._c._type().qualified_name())
    return found[1] if found is not None and found[1] in _CLASSES else None


def known_value(value: ScriptValue, script: ScriptModule) -> Any:
    """A value that is known before the graph runs: a constant, an attribute of the module, or a list of these.

    Raises `UnknownValueError` for any other.
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
    """Whether tracing wrote training mode into the graph, where `eval` cannot change it."""
    return any(
        (place := TRAINING_FLAGS.get(script_operator(node))) is not None
        and node.inputsAt(place).node().kind() == "prim::Constant"
        and node.inputsAt(place).toIValue() is True
        for node in walk_nodes(script.inlined_graph)
    )


def constants(graph: ScriptGraph) -> Iterator[Tensor]:
    """The tensors that are written into the graph itself, such as the weights of a frozen module."""
    for node in walk_nodes(graph):
        if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), Tensor):
            yield value


def attribute_names(node: ScriptNode) -> list[str]:
    """The attribute names from `self` down to the node's output; empty for `self` itself.

    Raises `UnknownValueError` where it comes from elsewhere.
    """
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.insert(0, node.s("name"))
        node = node.inputsAt(0).node()
    if node.kind() != "prim::Param":
        raise UnknownValueError
    return names
