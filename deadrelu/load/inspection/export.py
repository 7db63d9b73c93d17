"""What a torch.export program holds: its tensors and the activation nodes of its graphs; none of it runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deadrelu.activations import ACTIVATIONS, CLAMPS, canonical, clamp_kind
from deadrelu.errors import FileError
from deadrelu.load.members import Archive
from deadrelu.load.tree import group
from deadrelu.load.unpickling.pickled import Described
from deadrelu.report.inspection import CodeReference, KnownSite, TreeNode

_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+")
_OPERATORS = {name: kind for kind in ACTIVATIONS for name in kind.operators}
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
_FRAME_OF_TORCH = re.compile(r"[\\/]torch[\\/]nn[\\/]")
# fmt: off
_DTYPES = {
    "1": "uint8", "2": "int8", "3": "int16", "4": "int32", "5": "int64", "6": "float16", "7": "float32", "8": "float64",
    "9": "complex32", "10": "complex64", "11": "complex128", "12": "bool", "13": "bfloat16", "28": "uint16",
    "29": "float8_e4m3fn", "30": "float8_e5m2", "34": "uint32", "35": "uint64",
}
# fmt: on
"""The numbers that the format gives to dtypes: torch/_export/serde/schema.py, seen on torch 2.13.0."""


def read_exported(archive: Archive) -> tuple[TreeNode, tuple[KnownSite, ...], tuple[CodeReference, ...]]:
    """A torch.export program: its tensors, and the activation nodes of its graphs with the modules they come from."""
    asks = [CodeReference(name=name, what="pickle", runs=True) for name in archive.members if _is_pickle(name)]
    tensors: dict[str, Described] = {}
    sites: list[KnownSite] = []
    for name in archive.members:
        if name.startswith("models/") and name.endswith(".json"):
            asks.append(CodeReference(name=name, what="source", runs=True))
            sites += _graph_sites(_json(archive, name))
        elif name.endswith(("_weights_config.json", "_constants_config.json")):
            tensors |= dict(_tensors(_json(archive, name)))
    return group(tensors, kind="torch.export program"), tuple(sites), tuple(asks)


def _is_pickle(name: str) -> bool:
    """What torch unpickles when it loads a program: its sample inputs, and weights that are stored so."""
    return name.startswith(("data/sample_inputs/", "data/constants/")) and not name.endswith(".json")


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{archive.path} is damaged: {name} is not JSON", hint="copy or download it again") from error


def _tensors(config: Any) -> Iterator[tuple[str, Described]]:
    """Names, shapes and dtypes of one configuration; sizes that are not numbers are left out."""
    entries = config.get("config") if isinstance(config, dict) else None
    for key, entry in (entries if isinstance(entries, dict) else {}).items():
        meta = entry.get("tensor_meta") if isinstance(entry, dict) else None
        if isinstance(meta, dict):
            sizes = [size.get("as_int") for size in meta.get("sizes") or () if isinstance(size, dict)]
            shape = tuple(size for size in sizes if type(size) is int and size >= 0)
            yield key, Described(shape, _DTYPES.get(str(meta.get("dtype")), "unknown"))


def _graph_sites(program: Any) -> Iterator[KnownSite]:
    """The nodes of the graph, and of the graphs inside it, that are activations."""
    counts: dict[str, int] = {}
    found = list(_activation_nodes(program))
    total: dict[str, int] = {}
    for name, _, _ in found:
        total[name] = total.get(name, 0) + 1
    for name, op, source in found:
        counts[name] = counts.get(name, 0) + 1
        numbered = ":" in name or total[name] > 1
        yield KnownSite(
            id=f"{name}#{counts[name]}" if numbered else name or "(root)",
            op=op,
            module=name.partition(":")[0],
            source=source,
        )


def _activation_nodes(value: Any) -> Iterator[tuple[str, str, str | None]]:
    """Name without count, kind and source line of each activation node, in the order in which they stand."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            target = value.get("target")
            if isinstance(target, str) and (op := _kind(target, value)) is not None:
                yield _name(value.get("metadata"), op), op, _source(value.get("metadata"))
            waiting.extend(reversed(value.values()))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _kind(target: str, node: Mapping[str, Any]) -> str | None:
    """The activation that a node computes, or None."""
    found = _OPERATOR.fullmatch(target)
    if found is None:
        return None
    given = {}
    for entry in node.get("inputs") or ():
        if isinstance(entry, dict) and isinstance(entry.get("arg"), dict):
            given[entry.get("name")] = next(iter(entry["arg"].values()), None)
    if found[1] in CLAMPS:
        clamped = clamp_kind(given.get("min"), given.get("max") if not isinstance(given.get("max"), bool) else None)
        return clamped[0] if clamped else None
    kind = _OPERATORS.get(found[1])
    if kind is None:
        return None
    held = [given.get(key, default) for key, default in kind.defaults.items()]
    return canonical(kind.name, [v if isinstance(v, (int, float)) else math.nan for v in held])[0]


def _name(metadata: Any, op: str) -> str:
    """The path of the module that a node comes from; with `:op` unless that is an activation module itself."""
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    last = stack.split(";")[-1].split(",") if isinstance(stack, str) else []
    path, cls = (last[1].partition("@")[0], last[2]) if len(last) == 3 else ("", "")
    return path if cls.startswith("torch.nn.modules.activation.") else f"{path}:{op}"


def _source(metadata: Any) -> str | None:
    """The innermost line of a node's stack trace that is not torch's own."""
    trace = metadata.get("stack_trace") if isinstance(metadata, dict) else None
    frames = _FRAME.findall(trace) if isinstance(trace, str) else []
    own = [frame for frame in frames if not _FRAME_OF_TORCH.search(frame[0])]
    return f"{own[-1][0]}:{own[-1][1]}" if own else None
