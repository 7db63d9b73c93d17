"""Find the whole modules in a file: the model itself, and those in dictionaries and in objects that hold several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import nn

from deadrelu.errors import UsageError
from deadrelu.load.tree import is_module, unwrapped
from deadrelu.load.unpickling.inert import Tree
from deadrelu.load.unpickling.stub import Stub
from deadrelu.load.weights import found_in
from deadrelu.text.spelling import did_you_mean

_T = TypeVar("_T")

_LISTED = 12


def modules_in(tree: Tree) -> dict[str, Stub]:
    """The whole modules of the file by the key under which each stands ("" is the root), without their wrappers."""
    found = {key: unwrapped(stub) for key, stub in found_in(tree.root, Stub, is_whole).items()}
    return {key: stub for key, stub in found.items() if _has_parts(stub)}


def live_modules(root: object) -> dict[str, nn.Module]:
    """The same for a file that was unpickled."""
    return found_in(root, nn.Module, lambda value: isinstance(value, nn.Module))


def _has_parts(stub: Stub) -> bool:
    """Whether a stub has the state of a module, whatever its class; that of fx is made by a call, and has none."""
    return isinstance(stub.state, dict) and isinstance(dict.get(stub.state, "_modules"), dict)


def is_whole(value: object) -> bool:
    """Whether a stub is a module, or wraps one: what is in it is then no other model."""
    return is_module(unwrapped(value))


def chosen(
    path: Path, modules: Mapping[str, _T], states: Mapping[str, object], key: str | None, *, arch: bool
) -> str | None:
    """The place of the module to open, or None where weights are meant; a place in the module itself counts too.

    With an architecture, weights go before modules: the user said what to load them into. Raises `UsageError` where
    several would do, or nothing is at `key`, and lists what there is.
    """
    if key is not None:
        if key in modules or _holder(modules, key) is not None:
            return key
        if key in states or not modules:
            return None
        known = [*filter(None, modules), *filter(None, states)]
        near = did_you_mean(key, known, write="--weights-key {}")
        raise UsageError(f"{path} has nothing to open under {key!r}", hint=f"{near} it has {_listed(known)}".strip())
    if "" in modules:
        return ""
    if not modules or (arch and states):
        return None
    if len({id(module) for module in modules.values()}) > 1:
        raise UsageError(
            f"{path} holds several modules: {_listed(list(modules))}",
            hint=f"choose: --weights-key {next(iter(modules))}",
        )
    return next(iter(modules))


def at(modules: Mapping[str, _T], key: str) -> _T:
    """The module at a place that `chosen` gave. Raises `UsageError` if there is no such part in it."""
    holder = _holder(modules, key) if key not in modules else key
    assert holder is not None
    part = modules[holder]
    names = key[len(holder) :].strip(".").split(".") if key != holder else []
    for place, name in enumerate(names):
        inner = _parts(part)
        if name not in inner:
            whole = ".".join(filter(None, [holder, *names[:place], "{}", *names[place + 1 :]]))
            near = did_you_mean(name, inner, write=f"--weights-key {whole}")
            raise UsageError(f"there is no {name!r} in {key!r}", hint=f"{near} it has {_listed(list(inner))}".strip())
        part = inner[name]
    return part


def _holder(modules: Mapping[str, _T], key: str) -> str | None:
    """The place of the module in which the place `key` lies."""
    fitting = [place for place in modules if not place or key.startswith(f"{place}.")]
    return max(fitting, key=len, default=None)


def _parts(module: _T) -> dict[str, _T]:
    """The modules in a module, or in its stub."""
    if isinstance(module, Stub):
        table = dict.get(module.state, "_modules") if isinstance(module.state, dict) else None
        items = dict.items(table) if isinstance(table, dict) else ()
        return {name: unwrapped(inner) for name, inner in items if is_whole(inner)}
    return {name: inner for name, inner in getattr(module, "_modules", {}).items() if inner is not None}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more
