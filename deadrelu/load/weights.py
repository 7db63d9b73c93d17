"""Find the state dicts in whatever was loaded, and count the non-finite values of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deadrelu.load.tree import is_module, unwrapped
from deadrelu.load.unpickling.stub import Stub

State = dict[str, Tensor]
_T = TypeVar("_T")

_DEPTH = 4
_MOST = 10_000
_LISTED = 6
_OF_OPTIMIZERS = "torch.optim."
_NOT_WEIGHTS = ("optim", "sched", "scaler", "metric", "loop", "callback")


def states_in(root: object) -> dict[str, State]:
    """Every state dict in a tree of plain values, by its dotted key ("" is the tree itself), the outermost first.

    A state dict is a dictionary from names to tensors. What is under an optimizer or the like does not count, and
    neither do the tables of a whole module.
    """
    return _found(root, _as_state, lambda value: isinstance(value, nn.Module) or is_module(unwrapped(value)))


def found_in(root: object, kind: type[_T], ends: Callable[[object], bool]) -> dict[str, _T]:
    """Every object of class `kind` that `ends` the search, at the same places, by its dotted key."""
    return _found(root, lambda value: value if isinstance(value, kind) and ends(value) else None, ends)


def _found(root: object, wanted: Callable[[object], Any], ends: Callable[[object], bool]) -> dict[str, Any]:
    """Look through dictionaries, lists and objects, not very deep, for what `wanted` makes something of.

    Nothing is looked for in a value that `ends` the search.
    """
    found: dict[str, Any] = {}
    level: list[tuple[str, object]] = [("", root)]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        below: list[tuple[str, object]] = []
        for key, value in level:
            if (made := wanted(value)) is not None:
                found[key] = made
            elif not ends(value) and id(value) not in seen:
                seen.add(id(value))
                below.extend((f"{key}.{name}".lstrip("."), inner) for name, inner in _inside(value))
        level = below[:_MOST]
    return found


def _inside(value: object) -> Iterable[tuple[str, object]]:
    """The named parts of a container in which weights may stand: also the attributes of an object."""
    if isinstance(value, Stub):
        if value.path.startswith(_OF_OPTIMIZERS):
            return
        states = value.state if isinstance(value.state, tuple) else (value.state,)  # (attributes, slots)
        value = {name: inner for state in states if isinstance(state, dict) for name, inner in dict.items(state)}
    elif not isinstance(value, (dict, list, tuple, Tensor, type, ModuleType, torch.optim.Optimizer)):
        value = getattr(value, "__dict__", None)  # of a file that is trusted and was unpickled
    if isinstance(value, dict):
        for key, inner in dict.items(value):
            if type(key) is str and not is_apart((key,)):
                yield key, inner
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), inner) for place, inner in enumerate(value))


def is_apart(path: Iterable[str]) -> bool:
    """Whether the values under these keys belong to an optimizer or the like, not to a model."""
    return any(word in key.lower() for key in path for word in _NOT_WEIGHTS)


def _as_state(value: object) -> State | None:
    """The tensors of a state dict, as new objects, or None. `_extra_state` entries of modules are left out."""
    if not isinstance(value, dict):
        return None
    items = {key: inner for key, inner in dict.items(value) if not (type(key) is str and key.endswith("_extra_state"))}
    if not items or not all(type(key) is str and isinstance(inner, Tensor) for key, inner in items.items()):
        return None
    return {key: Tensor.detach(inner) for key, inner in items.items()}


def nonfinite(module: nn.Module) -> dict[str, int]:
    """How many values are NaN or infinite, by name, of the parameters and floating buffers that have any.

    Minus infinity in a buffer is an attention mask, not an accident, and does not count.
    """
    counts: dict[str, int] = {}
    parameters = dict(module.named_parameters())
    for name, tensor in (*parameters.items(), *module.named_buffers()):
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta or tensor.is_quantized:
            continue
        values = tensor.detach() if tensor.layout is torch.strided else tensor.detach().coalesce().values()
        if values.element_size() == 1:
            values = values.float()  # the 8-bit floats have no isfinite
        wide = torch.promote_types(values.dtype, torch.float32)  # where a sum does not soon overflow
        if bool(values.sum(dtype=wide).isfinite()):
            continue  # one trip to memory: neither NaN nor infinity goes lost in a sum
        bad = values.numel() - int(torch.isfinite(values).count_nonzero())
        if name not in parameters:
            bad -= int(torch.isneginf(values).count_nonzero())
        if bad:
            counts[name] = bad
    return counts


def shortened(keys: list[str]) -> str:
    """The first few keys, and how many more."""
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
