"""Which entries of which parameters belong to the units of a site, found on the recorded pass.

A tensor of labels follows the units through the operators: each entry is the number of its unit, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deadrelu.certify import affine, shapes
from deadrelu.certify.tape import Node, Ref, Tape
from deadrelu.certify.targets import Target

_NONE = -1.0
_POOLS = frozenset(
    {
        *("max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "mean", "sum", "amax"),
    }
)
_LINEAR = ("addmm", "mm")


class CoupledError(Exception):
    """Units that cannot be removed: the message is the reason."""


@dataclass(frozen=True)
class Slice:
    """The entries of a parameter along `dim` that belong to units: `places[u]` are those of unit u."""

    name: str
    dim: int
    places: Mapping[int, tuple[int, ...]]


@dataclass
class Couplings:
    """Finds the couplings of a module whose pass was recorded."""

    module: nn.Module
    tape: Tape
    _names: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    _readers: dict[int, list[Node]] = field(default_factory=dict)
    _uses: Counter[tuple[int, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name, tensor in (*self.module.named_parameters(remove_duplicate=False), *self.module.named_buffers()):
            if tensor.numel():
                self._names.setdefault(_place(tensor), []).append(name)
        counted = self.tape.ancestors([*self.tape.outputs, *(site.number for site in self.tape.sites if site.number)])
        for node in (node for node in self.tape.nodes if node.number in counted):
            if node.pick in (None, 0):
                self._uses.update(_place(each) for each in tree_leaves(node.args) if isinstance(each, Tensor))
            for parent in node.parents:
                self._readers.setdefault(parent, []).append(node)

    def of(self, target: Target) -> tuple[Slice, ...]:
        """What has to be cut for the units of a site: rows of what makes them, columns of what reads them.

        Raises `CoupledError` with the reason where they cannot be removed.
        """
        acts = [node for node in self._readers.get(target.number, []) if shapes.is_curve(node)]
        others = [node for node in self._readers.get(target.number, []) if node not in acts]
        if len(acts) != 1 or others:
            raise CoupledError("its pre-activation is read by more than the activation")
        labels = torch.full((self.tape.nodes[target.number].shape.numel(),), _NONE)
        for unit, entries in enumerate(target.entries):
            labels[entries] = float(unit)
        labels = labels.view(self.tape.nodes[target.number].shape)
        made = list(self._makers(target.number, labels))
        read = list(self._readers_of(acts[0], labels))
        slices = (*made, *read)
        if len({(each.name, each.dim) for each in slices}) < len(slices):
            raise CoupledError("two places of one parameter belong to it")
        return slices

    def _makers(self, number: int, labels: Tensor) -> Iterator[Slice]:
        """The rows of the layer and the norm that make the units."""
        node = self.tape.nodes[number]
        while True:
            if node.number != number and len(self._readers.get(node.number, [])) != 1:
                raise CoupledError("what its layer computes is read elsewhere too")
            if node.operator in ("view", "_unsafe_view", "clone", "detach", "alias") and len(node.parents) == 1:
                node = self.tape.nodes[node.parents[0]]
                labels = labels.reshape(node.shape)
            elif node.operator in affine.NORMS and isinstance(node.args[0], Ref):
                units = _along(labels, 1)
                yield from (self._slice(each, 0, units) for each in node.args[1:5] if isinstance(each, Tensor))
                node = self.tape.nodes[node.parents[0]]
            elif node.operator in _LINEAR and affine.is_affine(node):
                bias, weight = (node.args[0], node.args[2]) if node.operator == "addmm" else (None, node.args[1])
                if not isinstance(weight, Tensor):
                    raise CoupledError("its layer multiplies by a value of the data")
                units = _along(labels, 1)
                yield self._slice(weight.t(), 0, units)
                if isinstance(bias, Tensor):
                    yield self._slice(bias, 0, units)
                return
            elif node.operator in affine.CONVOLUTIONS and affine.is_affine(node):
                weight, bias, transposed, groups = node.args[1], node.args[2], node.args[6], node.args[8]
                if groups != 1 or transposed:
                    raise CoupledError("a grouped or transposed convolution makes it")
                units = _along(labels, 1)
                yield self._slice(weight, 0, units)
                if isinstance(bias, Tensor):
                    yield self._slice(bias, 0, units)
                return
            else:
                raise CoupledError(
                    f"it is not made by a layer and a batch norm alone, but by {node.operator or 'an input'}"
                )

    def _readers_of(self, act: Node, labels: Tensor) -> Iterator[Slice]:
        """The columns of the layers that read the units."""
        waiting: list[tuple[Node, Tensor]] = [(act, labels)]
        while waiting:
            node, labels = waiting.pop()
            if node.number in self.tape.outputs:
                raise CoupledError("it is part of the output")
            for reader in self._readers.get(node.number, []):
                if reader.operator in _LINEAR and affine.is_affine(reader):
                    yield self._columns_of_linear(reader, node, labels)
                elif reader.operator in affine.CONVOLUTIONS and affine.is_affine(reader):
                    if reader.args[8] != 1 or reader.args[6]:
                        raise CoupledError("a grouped or transposed convolution reads it")
                    yield self._slice(reader.args[1], 1, _along(labels, 1))
                else:
                    waiting.append((reader, _followed(reader, node.number, labels, self.tape)))

    def _columns_of_linear(self, reader: Node, node: Node, labels: Tensor) -> Slice:
        """The columns of a linear layer that read units."""
        first, weight = reader.args[-2:] if reader.operator == "addmm" else reader.args[:2]
        if not isinstance(first, Ref) or first.number != node.number or not isinstance(weight, Tensor):
            raise CoupledError("a product of two values of the data reads it")
        return self._slice(weight.t(), 1, _along(labels, 1))

    def _slice(self, tensor: Tensor, dim: int, units: Mapping[int, tuple[int, ...]]) -> Slice:
        """The entries of units in a constant of the tape, as those of the parameter that it is."""
        names = self._names.get(_place(tensor), [])
        if not names:
            raise CoupledError("the weights of its layers are computed from others")
        if len(names) > 1 or self._uses[_place(tensor)] > 1:
            raise CoupledError(f"`{names[0]}` is used more than once")
        owner = self.module.get_submodule(names[0].rpartition(".")[0])
        held: Tensor = getattr(owner, names[0].rpartition(".")[2])
        if held.shape != tensor.shape or held.stride() != tensor.stride():
            raise CoupledError(f"`{names[0]}` is used in another form than it has")
        if not isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm)):
            raise CoupledError(f"`{names[0]}` belongs to a {type(owner).__name__}")
        return Slice(names[0], dim, units)


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())


def _along(labels: Tensor, dim: int) -> dict[int, tuple[int, ...]]:
    """The indices along `dim` of each unit, where each index is of one unit or of none."""
    rows = labels.movedim(dim, 0).flatten(1)
    if not bool((rows == rows[:, :1]).all()):
        raise CoupledError("its units are not the indices of one axis")
    found: dict[int, list[int]] = {}
    for index, label in enumerate(rows[:, 0].tolist()):
        if label != _NONE:
            found.setdefault(int(label), []).append(index)
    return {unit: tuple(indices) for unit, indices in found.items()}


def _followed(reader: Node, number: int, labels: Tensor, tape: Tape) -> Tensor:
    """The labels of what an operator makes of labelled units, which are all 0 where they are dead."""
    name = reader.operator
    if name in ("add", "sub", "mul", "div") and len(reader.parents) > 1:
        what = {"add": "added to", "sub": "subtracted from", "mul": "multiplied by", "div": "divided by"}[name]
        raise CoupledError(f"it is {what} another branch, as in a shortcut")
    if reader.pick not in (None, 0):
        return torch.full(reader.shape, _NONE)
    if shapes.is_curve(reader):
        zero = torch.zeros((), dtype=torch.float64)
        if float(reader.run({number: zero.expand(tape.nodes[number].shape)}, torch.float64).abs().max()) != 0:
            raise CoupledError(f"{name} makes a constant other than 0 of it")
        return labels
    if name in _POOLS:
        low, high = (_pooled(reader, number, labels, side) for side in (-1.0, 1.0))
        if not torch.equal(low, high):
            raise CoupledError(f"{name} mixes its units")
        return high
    moves = affine.is_affine(reader) and affine.terms(reader, dict.fromkeys(reader.parents, labels)) == 0
    if moves or (name in ("mul", "div", "neg") and affine.is_affine(reader)):
        if not moves:
            return labels.expand(reader.shape)
        values = {p: torch.full(tape.nodes[p].shape, _NONE) for p in reader.parents}
        values[number] = labels
        padded = reader if name != "constant_pad_nd" else _padded_with_none(reader)
        return padded.run(values)
    raise CoupledError(f"{name} reads it")


def _pooled(reader: Node, number: int, labels: Tensor, side: float) -> Tensor:
    """The largest (or the smallest) label in each window of a pool."""
    kind = reader.operator
    if kind in ("mean", "sum", "amax"):
        dims = (
            [int(dim) for dim in reader.args[1]]
            if len(reader.args) > 1 and reader.args[1]
            else list(range(labels.ndim))
        )
        keep = bool(reader.args[2]) if len(reader.args) > 2 else False
        return (labels * side).amax(dims, keepdim=keep) * side
    if "adaptive" in kind:
        pool = getattr(torch.nn.functional, f"adaptive_max_pool{len(reader.args[1])}d")
        out: Tensor = pool(labels * side, reader.args[1]) * side
        return out
    if kind.startswith("avg"):
        spatial = len(reader.args[1])
        pool = getattr(torch.nn.functional, f"max_pool{spatial}d")
        args: Sequence[object] = [reader.args[1], reader.args[2] if len(reader.args) > 2 and reader.args[2] else None]
        padding = reader.args[3] if len(reader.args) > 3 else 0
        ceil = bool(reader.args[4]) if len(reader.args) > 4 else False
        averaged: Tensor = pool(labels * side, *args, padding=padding, ceil_mode=ceil) * side
        return averaged
    return reader.run({number: labels * side}) * side


def _padded_with_none(reader: Node) -> Node:
    """A padding that adds entries of no unit: of a labelled tensor, not zeros."""
    return replace(reader, args=(*reader.args[:2], _NONE))
