"""How many independent samples one call of the model holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from deadrelu.data.rows import length_of, rank_of
from deadrelu.programs.pytree import is_dataclass_instance, tensor_leaves

_GRAPH_OF_NODE = ("batch", "batch_index", "batch_idx", "batch_vec", "batch_vector", "graph_ids", "node_batch")
_MOST_CORNERS = 4


def first_of(value: Any) -> Any:
    """The first tensor, packed sequence, list of tensors or object in a nest, or None: it counts the samples."""
    if isinstance(value, (Tensor, PackedSequence)) or is_object(value):
        return value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return next((found for found in map(first_of, inner) if found is not None), None)


def is_object(value: object) -> bool:
    """Whether a forward reads this by attribute: a graph, a dataclass, whatever has tensors or a `.to()`."""
    if isinstance(value, (Tensor, torch.nn.Module, type, str, bytes, int, float, complex, list, tuple, dict)):
        return False
    if value is None or hasattr(value, "__array__"):
        return False
    if is_dataclass_instance(value) or callable(getattr(value, "to", None)):
        return True
    return any(isinstance(inner, Tensor) for inner in getattr(value, "__dict__", {}).values())


def samples_in(
    args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str], axis: int, *, is_whole: bool = False
) -> tuple[int, bool]:
    """How many samples, and whether they are rows of the first tensor along `axis`, so that fewer can be cut off.

    A graph is one sample, however many nodes it has; so is a call whose size cannot be told. `names` are the
    parameters of `forward`, by which a vector that says which graph a node belongs to is found. `is_whole` is data that
    is known to be the parts of one structure.
    """
    first = first_of((*args, *kwargs.values()))
    if isinstance(first, PackedSequence):
        return int(first.batch_sizes[0]) if len(first.batch_sizes) else 0, False
    if not isinstance(first, Tensor):
        return _samples_of_object(first, axis), False
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    tensors = list(tensor_leaves((tuple(args), dict(kwargs))))
    if is_whole or (axis == 0 and is_graph(tensors)):
        return next(_graphs(given, length_of(first) if rank_of(first) else 0), 1), False
    return length_of(first, axis), True


def is_graph(tensors: Sequence[Any], *, is_whole: bool = False) -> bool:
    """Whether these tensors or arrays are one structure: rows, and integers or a square matrix that tie them together.

    Integers do that as pairs, triangles or tetrahedra: `(2, E)`, `(E, 2)`, `(F, 3)`, of another length than the rows.
    A sparse matrix always does, a dense one only where nothing is cut (`is_whole`).
    """
    if len(tensors) < 2 or not rank_of(tensors[0]):
        return False
    first, *others = tensors
    most = max((length_of(array) for array in tensors if not _is_integer(array)), default=length_of(first))
    return any(_ties(other, length_of(first), most, is_whole=is_whole) for other in others)


def _ties(array: Any, rows: int, most: int, *, is_whole: bool) -> bool:
    """Whether an array ties `rows` together; its numbers must be of rows, of which one of the arrays has `most`."""
    if isinstance(array, Tensor) and array.is_nested:
        return False
    shape = tuple(array.shape)
    if len(shape) != 2:
        return False
    is_sparse = isinstance(array, Tensor) and array.layout is not torch.strided
    if is_sparse or shape == (rows, rows):
        return shape == (rows, rows) and (is_sparse or is_whole)
    if not _is_integer(array) or not 2 <= min(shape) <= _MOST_CORNERS or shape[0] == rows:
        return False
    return bool(array.min() >= 0 and array.max() < most)


def _is_integer(array: Any) -> bool:
    if isinstance(array, Tensor):
        return not (array.is_floating_point() or array.is_complex() or array.dtype == torch.bool)
    return bool(array.dtype.kind in "iu")


def _samples_of_object(value: Any, axis: int) -> int:
    """What an object says of itself; 1 where it says nothing, which claims too little rather than too much."""
    graphs = getattr(value, "num_graphs", None)
    if isinstance(graphs, int):
        return graphs
    held = dict(getattr(value, "__dict__", {}))
    if is_dataclass_instance(value):  # one with slots has no __dict__
        held = {field.name: getattr(value, field.name, None) for field in fields(value)}
    elif isinstance(value, Mapping):
        held = dict(value)
    elif isinstance(held.get("_store"), Mapping):
        held = dict(held["_store"])
    tensors = [inner for inner in held.values() if isinstance(inner, Tensor) and inner.dim() and not inner.is_nested]
    rows = length_of(tensors[0]) if tensors else 1
    found = next(_graphs(held, rows), None)
    if found is not None:
        return found
    # One length for all is a batch of rows; several are the parts of one thing.
    sizes = {length_of(tensor, axis) if tensor.dim() > axis else 0 for tensor in tensors}
    return sizes.pop() if len(sizes) == 1 else 1


def _graphs(given: Mapping[str, Any], nodes: int) -> Iterator[int]:
    """The number of graphs, from a vector that gives each node the number of its graph."""
    for name in _GRAPH_OF_NODE:
        vector = given.get(name)
        if isinstance(vector, Tensor) and vector.shape == (nodes,) and nodes and _is_integer(vector):
            yield int(vector.max()) + 1
