"""What `deadrelu inspect` finds in a model file without running any of it, and its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from deadrelu.report.optimizer import OptimizerInfo

INSPECTION_VERSION = 1

PlainValue = str | int | float | bool | None | tuple["PlainValue", ...]
Way = Literal["as it is", "with --arch", "with --weights-key", "with --trust", "with an extra", "not at all"]


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """A tensor of the file: its key, shape and dtype (`float32`); its values are not read."""

    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """A part of the file: a module, a dictionary, or a group of keys with a common prefix.

    `kind` is the class as the file names it, or "" for a group of keys. `settings` are its plain values. `same_as` is
    the path of another part that is the same object; `left_out` counts the parts that are not followed.
    """

    name: str
    kind: str = ""
    settings: Mapping[str, PlainValue] = field(default_factory=dict)
    tensors: tuple[TensorEntry, ...] = ()
    children: tuple[TreeNode, ...] = ()
    same_as: str | None = None
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class KnownSite:
    """An activation call that is known without running the model: its id, its kind, and where it is written.

    An activation module counts as one call; only a run shows how often it is called, if at all.
    """

    id: str
    op: str
    module: str
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class CodeReference:
    """Something in the file that is code or names code: a "class", "function", "source", "pickle" or "library".

    `runs` says whether opening the file in the usual way would run it. Torch's plain records do not run.
    """

    name: str
    what: str
    runs: bool


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How `deadrelu scan` would open the file, why, and what to do."""

    way: Way
    why: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a file is and holds. `bytes` is its size on disk, `sha256` the hash that `--trust-sha256` takes.

    `hyper_parameters` are the plain values saved by Lightning, which are passed to the constructor of `--arch` (None if
    there are none); `hyper_left_out` names those that are objects. `optimizers` are those of a training checkpoint.
    """

    path: str
    kind: str
    what: str
    bytes: int
    sha256: str | None
    opening: Opening
    asks: tuple[CodeReference, ...] = ()
    members: Mapping[str, int] = field(default_factory=dict)
    tree: TreeNode | None = None
    sites: tuple[KnownSite, ...] = ()
    notes: tuple[str, ...] = ()
    hyper_parameters: Mapping[str, object] | None = None
    hyper_left_out: tuple[str, ...] = ()
    optimizers: tuple[OptimizerInfo, ...] = ()

    @property
    def tensors(self) -> tuple[TensorEntry, ...]:
        """Every tensor of the tree, in order."""
        return tuple(_tensors(self.tree)) if self.tree is not None else ()

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as JSON types."""
        tensors = self.tensors
        return {
            "schema_version": INSPECTION_VERSION,
            "path": self.path,
            "kind": self.kind,
            "what": self.what,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "opening": asdict(self.opening),
            "asks": [asdict(asked) for asked in self.asks],
            "members": dict(self.members),
            "elements": sum(tensor.elements for tensor in tensors),
            "tensors": [asdict(tensor) for tensor in tensors],
            "sites": [asdict(site) for site in self.sites],
            "tree": None if self.tree is None else _node_to_dict(self.tree),
            "notes": list(self.notes),
            "hyper_parameters": _finite(self.hyper_parameters),
            "hyper_left_out": list(self.hyper_left_out),
            "optimizers": [each.to_dict() for each in self.optimizers],
        }

    def to_json(self) -> str:
        """Return the inspection as JSON text with a final newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _tensors(node: TreeNode) -> Iterator[TensorEntry]:
    yield from node.tensors
    for child in node.children:
        yield from _tensors(child)


def _finite(value: object) -> object:
    """Return plain values as JSON types, with non-finite numbers as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _node_to_dict(node: TreeNode) -> dict[str, Any]:
    """Return a node without its tensors, which are listed under their full keys."""
    return {
        "name": node.name,
        "kind": node.kind,
        "settings": dict(node.settings),
        "same_as": node.same_as,
        "left_out": node.left_out,
        "children": [_node_to_dict(child) for child in node.children],
    }
