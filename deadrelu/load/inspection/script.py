"""What a TorchScript archive holds: its modules, its code, the activation calls in it; none of it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from deadrelu.activations import ACTIVATIONS, canonical
from deadrelu.load.members import Archive
from deadrelu.load.tree import MOST_NODES, draw, group, is_module
from deadrelu.load.unpickling.pickled import Described, members
from deadrelu.report.inspection import CodeReference, KnownSite, TreeNode

_FUNCTIONS = {name.rpartition(".")[2]: kind.name for kind in ACTIVATIONS for name in kind.functions}
_FUNCTIONAL = rf"torch\.nn\.functional(?:\.___torch_mangle_\d+)?\.({'|'.join(_FUNCTIONS)})"
_CALL = re.compile(rf"\b(?:{_FUNCTIONAL}|torch\.({'|'.join(_FUNCTIONS)}))\(")
_ALIAS = re.compile(rf"(\w+) = __torch__\.{_FUNCTIONAL}")
_CALLED = re.compile(r"\b(\w+)\(")
_BOUNDS = re.compile(r"\w+, (-?\d{1,9}\.\d{0,9}), (-?\d{1,9}\.\d{0,9})")
_CLASS = re.compile(r"class (\w+)\(Module\):")
_OF_TORCH = "code/__torch__/torch/"


def read_torchscript(archive: Archive) -> tuple[TreeNode, tuple[KnownSite, ...], tuple[CodeReference, ...]]:
    """A TorchScript archive: its modules with their Python classes, its code files, the activation calls in them."""
    pickled = archive.pickle("data.pkl")
    tree, sites = draw(pickled.root)
    if constants := _constants(archive):
        tree = replace(tree, children=(*tree.children, constants))
    where = _places(pickled.root)
    code = [name for name in archive.members if name.startswith("code/") and name.endswith(".py")]
    calls = (
        site
        for name in code
        if not name.startswith(_OF_TORCH)
        for site in _calls_in(archive.read(name).decode("utf-8", "replace"), name, where)
    )
    return (
        tree,
        (*sites, *islice(calls, MOST_NODES)),
        tuple(CodeReference(name=name, what="source", runs=True) for name in code),
    )


def _constants(archive: Archive) -> TreeNode | None:
    """The tensors that a frozen module keeps under numbers, as its code calls them: `CONSTANTS.c0`."""
    held = archive.pickle("constants.pkl").root if "constants.pkl" in archive.members else ()
    tensors = {f"c{place}": value for place, value in members(held) if isinstance(value, Described)}
    return group(tensors, "CONSTANTS", "constants of the code", prefix="CONSTANTS.") if tensors else None


def _places(root: Any) -> dict[str, list[str]]:
    """The module paths of each class of the archive, by its full name there; each module once."""
    found: dict[str, list[str]] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        path, value = waiting.pop(0)
        if is_module(value) and id(value) not in seen:
            seen.add(id(value))
            found.setdefault(value.path, []).append(path)
            waiting += [(f"{path}.{name}" if path else name, inner) for name, inner in members(value.state)]
    return found


def code_calls(text: str) -> Iterator[tuple[int, str, str]]:
    """The activation calls that are written in TorchScript's Python: line, class ("" outside of one), and kind."""
    aliases: dict[str, str] = {}
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _CLASS.match(line):
            inside = found[1]
        elif line.lstrip().startswith("def "):
            aliases = {}
            inside = inside if line.startswith(" ") else ""
        if found := _ALIAS.fullmatch(line.strip()):
            aliases[found[1]] = found[2]
        for call in _CALL.finditer(line):
            yield number, inside, _kind(call[1] or call[2], line, call.end())
        for call in _CALLED.finditer(line) if aliases else ():
            if call[1] in aliases:
                yield number, inside, _kind(aliases[call[1]], line, call.end())


def _kind(function: str, line: str, at: int) -> str:
    """The activation that a call spells whose arguments begin at `at`: hardtanh between 0 and 6 is relu6."""
    name = _FUNCTIONS[function]
    bounds = _BOUNDS.match(line, at) if name == "hardtanh" else None
    return canonical(name, (float(bounds[1]), float(bounds[2])))[0] if bounds else name


def _calls_in(text: str, name: str, where: Mapping[str, list[str]]) -> Iterator[KnownSite]:
    """The functional sites of one code file: of each module of the classes that it defines."""
    home = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
    counts: dict[tuple[str, str], int] = {}
    for line, inside, op in code_calls(text):
        for module in where.get(f"{home}.{inside}", ()) if inside else ():
            counts[module, op] = counts.get((module, op), 0) + 1
            yield KnownSite(id=f"{module}:{op}#{counts[module, op]}", op=op, module=module, source=f"{name}:{line}")
