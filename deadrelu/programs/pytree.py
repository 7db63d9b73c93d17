"""Walks the pytrees of tuples, lists, mappings and dataclasses that models take and return."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def tensor_leaves(value: Any) -> Iterator[Tensor]:
    """Every tensor in a pytree, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensor_leaves(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from tensor_leaves(inner)
    elif is_dataclass_instance(value):
        for field in fields(value):
            yield from tensor_leaves(getattr(value, field.name, None))


def is_dataclass_instance(value: object) -> bool:
    """Whether `value` is an instance of a dataclass, not the class itself."""
    return is_dataclass(value) and not isinstance(value, type)


def to_device(value: Any, device: torch.device) -> Any:
    """The same pytree with every tensor on `device`; an object that has `.to()` moves itself."""
    return map_tensors(value, lambda x: x.to(device), lambda x: x.to(device) if _moves(x) else None)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor], whole: Callable[[Any], Any] = lambda _: None) -> Any:
    """The same pytree with every tensor changed; anything else becomes what `whole` returns for it, unless None."""
    if isinstance(value, Tensor):
        return change(value)
    if (made := whole(value)) is not None:
        return made
    if isinstance(value, Mapping):
        inner = {key: map_tensors(inner, change, whole) for key, inner in value.items()}
        return inner if type(value) is dict else _refilled(value, inner)
    if isinstance(value, (list, tuple)):
        inside = [map_tensors(inner, change, whole) for inner in value]
        return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
    if is_dataclass_instance(value):
        out = copy.copy(value)
        for field in fields(value):
            if hasattr(value, field.name):  # not through __init__, which may check or compute
                object.__setattr__(out, field.name, map_tensors(getattr(value, field.name), change, whole))
        return out
    return value


def _refilled(value: Mapping[Any, Any], inner: dict[Any, Any]) -> Mapping[Any, Any]:
    """A mapping of the same class with other values; a plain dict if the class is immutable."""
    if not isinstance(value, MutableMapping):
        return inner
    out = copy.copy(value)
    for key, changed in inner.items():
        out[key] = changed
    return out


def _moves(value: object) -> bool:
    """Whether this is an object with a `.to()`: a graph, a BatchEncoding, a packed sequence."""
    return callable(getattr(value, "to", None)) and not isinstance(value, (type, torch.nn.Module))
