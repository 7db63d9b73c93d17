"""Reads and edits the graph of a torch.export program: its activation calls, their places, its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import TensorArgument
from torch.fx import GraphModule, Node
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from deadrelu.activations import ACTIVATIONS, BY_NAME
from deadrelu.programs.callsites import Spelling, spellings
from deadrelu.programs.register import Place
from deadrelu.programs.special_operators import RECURRENT, TRAINING_FLAGS
from deadrelu.programs.substitutes import Substitute
from deadrelu.programs.tracebacks import python_frames, source_in

_CELLS = re.compile(r"torch\.nn\.modules\.rnn\.")
_AGAIN = re.compile(r"@\d+$")
_CLASSES = {kind.module_path for kind in ACTIVATIONS}


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


def spelling_in(node: Node) -> Spelling | None:
    """What activation a node may be; None if none, or if it is a step of one that torch makes of several."""
    if node.op != "call_function":
        return None
    operator = export_operator(node)
    if operator in ("sub", "div"):
        return BY_NAME["tanhshrink" if operator == "sub" else "softsign"] if _is_composed(node, operator) else None
    if operator == "tanh" and any(_is_composed(user, "sub") for user in node.users):
        return None
    if operator in RECURRENT and _CELLS.match(_owner(node)[1]):
        return None
    return spellings().get(node.target)


def place_of(node: Node, outer: str = "") -> Place:
    """The place of a node; `outer` is the path of the node that runs its graph, if that is a branch without paths."""
    path, name = _owner(node)
    is_module = name in _CLASSES
    source = None if is_module else source_in(python_frames(node.meta.get("stack_trace") or ""))
    return Place(outer if path is None else path, is_module, source)


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


def refresh_shapes(program: ExportedProgram) -> None:
    """Write the shapes down again that the graph has for its values, after weights have got other sizes."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    fakes = [value for value in values.values() if isinstance(value, FakeTensor)]
    if not fakes:
        return
    mode = fakes[0].fake_mode
    for spec in program.graph_signature.input_specs:
        held = program.state_dict.get(spec.target or "", program.constants.get(spec.target or ""))
        if isinstance(spec.arg, TensorArgument) and isinstance(held, torch.Tensor):
            values[spec.arg.name] = mode.from_tensor(held, static_shapes=True)
    with enable_python_dispatcher():  # as in the export: a free size stays free
        FakeTensorProp(program.graph_module, mode).propagate_dont_convert_inputs(*values.values())


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
        elif spelling_in(node) is not None:
            yield module, node


def _owner(node: Node) -> tuple[str | None, str]:
    """The path and the class of the module whose forward makes the call; None and "" where they are not known."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return None, ""
    path, kind = stack[-1]
    return _AGAIN.sub("", str(path)), kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _is_composed(node: Node, operator: str) -> bool:
    """Whether a node ends what torch makes of a Tanhshrink, x - tanh(x), or of a Softsign, x / (|x| + 1)."""
    if export_operator(node) != operator or len(node.args) < 2:
        return False
    x, inner = node.args[:2]
    if operator == "div" and isinstance(inner, Node) and export_operator(inner) == "add":
        inner, one = inner.args[:2]
        if one != 1:
            return False
    wanted = {"sub": "tanh", "div": "abs"}[operator]
    return isinstance(inner, Node) and export_operator(inner) == wanted and inner.args[0] is x


def _target(call: Substitute) -> Any:
    return getattr(torch.ops.aten, call.operator).default
