"""Walks the nests of tuples, lists and mappings that models take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from tensors_in(inner)


def moved(value: Any, device: torch.device) -> Any:
    """The same nest with every tensor on `device`."""
    return mapped(value, lambda x: x.to(device))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        inside = [mapped(inner, change) for inner in value]
        return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
    return value
