"""The architecture tree of what a pickle holds, and the sites that can be told from it; nothing is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from deadrelu.activations import ACTIVATIONS, canonical
from deadrelu.load.unpickling.known import COMPILED, DATA_PARALLEL
from deadrelu.load.unpickling.pickled import Described, members
from deadrelu.load.unpickling.stub import Stub, StubClass
from deadrelu.report.inspection import KnownSite, PlainValue, TensorEntry, TreeNode
from deadrelu.text.wording import count

DEEPEST = 40
MOST_NODES = 20_000
MOST_SETTINGS = 40
MODULE_OF_FX = "torch.fx.graph_module.reduce_graph_module"

_LONGEST_TEXT = 80
_LONGEST_TUPLE = 8
_TABLES = ("_parameters", "_buffers", "_modules")
_MANGLED = re.compile(r"___torch_mangle_\d+\.")
_ACTIVATION_MODULES = {kind.module_path: kind for kind in ACTIVATIONS}
_ACTIVATION_FUNCTIONS = {name: kind.name for kind in ACTIVATIONS for name in kind.functions}
_CALL_THEIR_ACTIVATION = tuple(f"torch.nn.modules.transformer.Transformer{x}coderLayer" for x in ("En", "De"))


def draw(root: Any) -> tuple[TreeNode, tuple[KnownSite, ...]]:
    """The tree of a pickle's root, and the activation modules in it, in the order in which they are registered.

    What the file holds twice is drawn once. Beyond `DEEPEST` levels and `MOST_NODES` parts, parts are only counted.
    Ids of sites begin at the whole module, wherever that is in the file: as in a scan.
    """
    drawing = _Drawing()
    if isinstance(root, Described):
        return TreeNode(name="", kind="tensor", tensors=(_entry("", root),)), ()
    node = drawing.node("", root, "", None, 0)
    return node, tuple(drawing.sites)


def group(tensors: Mapping[str, Described], name: str = "", kind: str = "state dict", prefix: str = "") -> TreeNode:
    """A state dict as a tree of the parts of its keys (`layer1.0.conv1.weight`); `prefix` goes before each key."""
    root = _Group()
    for key, held in tensors.items():
        at = root
        for part in key.split(".")[:-1][:DEEPEST]:
            at = at.children.setdefault(part, _Group())
        at.tensors.append(_entry(f"{prefix}{key}", held))
    return root.node(name, kind)


def plain_class(path: str) -> str:
    """A class of a TorchScript archive under the name that it had in Python; any other name as it is."""
    return _MANGLED.sub("", path.removeprefix("__torch__.")) if path.startswith("__torch__.") else path


def is_module(value: Any) -> bool:
    """Whether a stub is a module: of Python, of a TorchScript archive, or a graph module of fx."""
    if not isinstance(value, Stub):
        return False
    return isinstance(_state(value).get("_modules"), dict) or value.path.startswith("__torch__.")


def unwrapped(value: Any) -> Any:
    """The model inside a DataParallel or a compiled module, as a scan takes it; anything else as it is."""
    for _ in range(DEEPEST):
        inner: Any = None
        if isinstance(value, Stub) and value.path == DATA_PARALLEL and is_module(value):
            inner = _state(value)["_modules"].get("module")
        elif isinstance(value, Stub) and value.path == COMPILED and value.args:
            inner = value.args[0]
        if not isinstance(inner, Stub):
            break
        value = inner
    return value


class _Group:
    """A tree in the making."""

    def __init__(self) -> None:
        self.tensors: list[TensorEntry] = []
        self.children: dict[str, _Group] = {}

    def node(self, name: str, kind: str = "") -> TreeNode:
        children = tuple(child.node(part) for part, child in self.children.items())
        return TreeNode(name=name, kind=kind, tensors=tuple(self.tensors), children=children)


class _Drawing:
    """One tree: which values were drawn where, and the sites met so far."""

    def __init__(self) -> None:
        self.drawn: dict[int, str] = {}
        self.kept: list[Any] = []  # a value that is freed could lend its id to another
        self.sites: list[KnownSite] = []

    def node(self, name: str, value: Any, path: str, module: str | None, depth: int) -> TreeNode:
        """The node of a container. `path` is its key in the file, `module` its path in the module that it is in."""
        value = unwrapped(value)
        kind = _kind(value)
        if id(value) in self.drawn:
            return TreeNode(name=name, kind=kind, same_as=self.drawn[id(value)])
        if depth >= DEEPEST or len(self.drawn) >= MOST_NODES:
            return TreeNode(name=name, kind=kind, left_out=1)
        self.drawn[id(value)] = path
        self.kept.append(value)
        prefix = f"{path}." if path else ""
        if flat := _flat(value):
            return group(flat, name, prefix=prefix)
        if is_module(value):
            return self._module(name, value, prefix, module or "", depth)
        inner = (
            [*value.args, *(value.state if isinstance(value.state, tuple) else ())] if isinstance(value, Stub) else ()
        )
        parts = [*members(inner), *members(value), *members(_state(value))]
        return self._filled(name, kind, dict(parts), parts, prefix, None, depth)

    def _module(self, name: str, stub: Stub, prefix: str, module: str, depth: int) -> TreeNode:
        """A module: its settings, its tensors, its children; and the sites that it is."""
        state, kind = _state(stub), _kind(stub)
        tables = _TABLES if isinstance(state.get("_modules"), dict) else ()
        rest = {key: value for key, value in members(state) if key not in tables}
        parts = [part for table in tables for part in members(state.get(table))] if tables else list(rest.items())
        self._note_sites(kind, module, state)
        return self._filled(name, kind, rest, parts, prefix, module, depth)

    def _filled(
        self,
        name: str,
        kind: str,
        values: Mapping[str, Any],
        parts: list[tuple[str, Any]],
        prefix: str,
        module: str | None,
        depth: int,
    ) -> TreeNode:
        """A node with what of its parts is a tensor, what is plain, and what needs a node of its own."""
        settings = {key: plain(value) for key, value in values.items() if _is_shown(key, value)}
        inner = [(key, value) for key, value in parts if _is_part(value)]
        room = max(0, MOST_NODES - len(self.drawn))
        above = f"{module}." if module else ""
        return TreeNode(
            name=name,
            kind=kind,
            settings=dict(list(settings.items())[:MOST_SETTINGS]),
            tensors=tuple(_entry(f"{prefix}{key}", held) for key, held in parts if isinstance(held, Described)),
            children=tuple(
                self.node(key, value, f"{prefix}{key}", None if module is None else f"{above}{key}", depth + 1)
                for key, value in inner[:room]
            ),
            left_out=max(0, len(inner) - room) + max(0, len(settings) - MOST_SETTINGS),
        )

    def _note_sites(self, kind: str, module: str, state: Mapping[str, Any]) -> None:
        """An activation module is a site; so is the function that torch's transformer layers hold and call."""
        if found := _ACTIVATION_MODULES.get(kind):
            held = [state.get(key, default) for key, default in found.defaults.items()]
            numbers = [float(value) if type(value) in (int, float) else math.nan for value in held]
            self.sites.append(KnownSite(id=module or "(root)", op=canonical(found.name, numbers)[0], module=module))
        function = state.get("activation")
        if kind in _CALL_THEIR_ACTIVATION and isinstance(function, StubClass):
            name = _ACTIVATION_FUNCTIONS.get(function.path)
            if name is not None:
                self.sites.append(
                    KnownSite(id=f"{module}.linear1:{name}" if module else f"linear1:{name}", op=name, module=module)
                )


def _kind(value: Any) -> str:
    """The class of a value, by the name that a person knows it by."""
    if isinstance(value, Stub):
        return "torch.fx.graph_module.GraphModule" if value.path == MODULE_OF_FX else plain_class(value.path)
    return "list" if isinstance(value, (list, tuple)) else "dict"


def _state(value: Any) -> dict[str, Any]:
    """What is in a stub's `__dict__`; fx hands it to a function instead."""
    if not isinstance(value, Stub):
        return {}
    held = value.args[0] if value.path == MODULE_OF_FX and value.args else value.state
    return held if isinstance(held, dict) else {}


def _arguments(value: Any) -> tuple[Any, ...]:
    """What a stub was made from, unless it is a module."""
    if not isinstance(value, Stub):
        return ()
    return (*value.args, *(value.state if isinstance(value.state, tuple) else ()))


def _entry(key: str, held: Described) -> TensorEntry:
    return TensorEntry(key=key, shape=held.shape, dtype=held.dtype)


def _flat(value: Any) -> dict[str, Described]:
    """A state dict: a dictionary of nothing but tensors by name; what modules add to theirs (`_extra_state`) apart."""
    if not isinstance(value, dict):
        return {}
    items = {k: v for k, v in dict.items(value) if not (type(k) is str and k.endswith("_extra_state"))}
    return items if all(type(k) is str and isinstance(v, Described) for k, v in items.items()) else {}


def _is_part(value: Any) -> bool:
    """Whether a value gets a node of its own: what holds more than plain values. Empty ones do not."""
    if isinstance(value, Stub):
        return True
    if not isinstance(value, (dict, list, tuple)):
        return False
    return any(isinstance(inner, (Described, Stub, dict, list, tuple)) for _, inner in members(value))


def _is_shown(key: str, value: Any) -> bool:
    """Whether a value is worth a word beside its module: plain, not empty, not of torch's inner book-keeping."""
    if key == "training" or key.startswith("_") or isinstance(value, Described) or _is_part(value):
        return False
    return not (isinstance(value, (dict, list, tuple, set)) and not value)


def plain(value: Any) -> PlainValue:
    """A value as JSON takes it, long ones cut short: the file chooses how long they are."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else count(len(value), "byte")
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    if isinstance(value, StubClass):
        return value.path
    if isinstance(value, (list, tuple)):
        if len(value) <= _LONGEST_TUPLE and all(isinstance(inner, (bool, int, float, str)) for inner in value):
            return tuple(plain(inner) for inner in value)
        return count(len(value), "value")
    return count(len(value), "entry", "entries") if isinstance(value, (dict, set, frozenset)) else type(value).__name__
