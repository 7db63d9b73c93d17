"""Reads and edits the graph of a torch.export program: its activation calls, their places, its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from deadrelu.activations import KINDS
from deadrelu.programs.callsites import spellings
from deadrelu.programs.register import Place
from deadrelu.programs.special_operators import TRAINING_FLAGS
from deadrelu.programs.substitutes import Substitute
from deadrelu.programs.tracebacks import python_frames, source_in

_AGAIN = re.compile(r"@\d+$")
_CLASSES = {kind.module_path for kind in KINDS}


@dataclass(frozen=True)
class Input:
    """One tensor input of the program: its dtype, and the smallest and largest size of each dimension."""

    dtype: torch.dtype
    sizes: tuple[tuple[int, int | None], ...]

    def __str__(self) -> str:
        return f"({', '.join(str(low) if low == high else '*' for low, high in self.sizes)})"


def activation_nodes(module: GraphModule) -> list[tuple[GraphModule, Node]]:
    """The nodes that may be activation calls, each with its graph, in order.

    The graphs of branches and loops come where the program refers to them.
    """
    return list(_activation_nodes(module))


def place_of(node: Node, outer: str = "") -> Place:
    """The place of a node; `outer` is the path of the node that runs its graph, if that is a branch without paths."""
    stack = [(str(path), kind) for path, kind in (node.meta.get("nn_module_stack") or {}).values()]
    path = _AGAIN.sub("", stack[-1][0]) if stack else outer
    kind = stack[-1][1] if stack else ""
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    is_module = name in _CLASSES
    source = None if is_module else source_in(python_frames(node.meta.get("stack_trace") or ""))
    return Place(path, is_module, source)


def inputs(program: ExportedProgram) -> list[Input | None]:
    """The flattened inputs of the program, in order; None for anything but a tensor."""
    names = program.graph_signature.user_inputs
    found = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    ranges = program.range_constraints

    def size(length: Any) -> tuple[int, int | None]:
        if isinstance(length, int):
            return length, length
        limits = ranges.get(length.node.expr)
        if limits is None:
            return 0, None
        return max(0, int(limits.lower)), int(limits.upper) if limits.upper.is_Integer else None

    return [
        Input(value.dtype, tuple(size(length) for length in value.shape))
        if isinstance(name, str) and isinstance(value := found.get(name), torch.Tensor)
        else None
        for name in names
    ]


def exported_in_training(module: GraphModule) -> bool:
    """Whether the program was exported in training mode: batch norm uses each batch's statistics, dropout drops."""
    return any(
        len(node.args) > place and node.args[place] is True
        for inner in module.modules()
        if isinstance(inner, GraphModule)
        for node in inner.graph.nodes
        if (place := TRAINING_FLAGS.get(export_operator(node))) is not None
    )


def rewrite_export(module: GraphModule, wanted: Mapping[int, Sequence[Substitute]]) -> None:
    """Replace the calls with these numbers by other operators."""
    found = activation_nodes(module)
    for number, chain in wanted.items():
        owner, node = found[number]
        z = node.args[0] if node.args else node.kwargs["self"]
        *before, last = chain
        for call in before:
            with owner.graph.inserting_before(node):
                z = owner.graph.call_function(_target(call), (z,), dict(call.arguments))
            z.meta = dict(node.meta)
        # The node itself stays, as the last call: the program's signature may know it by its name.
        node.target, node.args, node.kwargs = _target(last), (z,), dict(last.arguments)
    for owner in {id(owner): owner for owner, _ in found}.values():
        owner.graph.lint()
        owner.recompile()


def export_operator(node: Node) -> str:
    """The name of the aten operator that a node calls, without overload; "" for any other node."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return ""
    return str(node.target.overloadpacket.__name__)


def weight_or_argument(module: GraphModule, value: Any) -> Any:
    """The value of a node's argument: the weight that it refers to, or the argument itself."""
    if not isinstance(value, Node) or value.op != "get_attr":
        return value
    return reduce(getattr, str(value.target).split("."), module)


def _activation_nodes(module: GraphModule) -> Iterator[tuple[GraphModule, Node]]:
    for node in module.graph.nodes:
        if node.op == "get_attr" and isinstance(inner := getattr(module, str(node.target), None), GraphModule):
            yield from _activation_nodes(inner)
        elif node.op == "call_function" and node.target in spellings():
            yield module, node


def _target(call: Substitute) -> Any:
    return getattr(torch.ops.aten, call.operator).default
