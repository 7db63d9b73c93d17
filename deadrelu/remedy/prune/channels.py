"""Which entries of values and parameters have to go together, found by one walk over the recorded pass.

What a row of a layer makes is a channel, and has a number. A tensor of labels follows the channels through the
operators, and an operator that needs two of them to have the same size joins them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from deadrelu.certify import affine, shapes
from deadrelu.certify.tape import INPUT, Node, Ref, Tape
from deadrelu.remedy.prune.joining import Joining
from deadrelu.remedy.prune.parameters import NamedTensors, TensorDim

Kind = Literal["linear", "convolution", "norm", "entries", "windows", "sums", "moves", "other"]
_PRODUCTS = ("addmm", "mm")
_OF_ENTRIES = frozenset({"add", "sub", "rsub", "mul", "div", "neg", "negative", "maximum", "minimum", "clone"})
_WINDOWS = re.compile(r"pool(\d)d|upsample_\w+?(\d)d")
_SUMS = frozenset({"mean", "sum", "amax", "amin"})
_JOINED = {
    "add": "it is added to another branch, as in a shortcut",
    "sub": "another branch is subtracted from it, or it from that",
    "mul": "it is multiplied by another branch",
    "div": "it is divided by another branch, or that by it",
}
_GROUPED = "a grouped convolution reads it together with others"


def kind_of(node: Node) -> Kind:
    """How an operator treats channels; "other" for one that is not known to keep them apart."""
    name, is_affine = node.operator, affine.is_affine(node)
    if name in _PRODUCTS and is_affine:
        return "linear"
    if name in affine.CONVOLUTIONS and is_affine:
        return "convolution"
    if name in affine.NORMS and is_affine:
        return "norm"
    if shapes.is_curve(node) or (name in _OF_ENTRIES and node.kwargs.get("rounding_mode") is None):
        return "entries"
    if _WINDOWS.search(name) and node.pick in (None, 0):
        return "windows"
    if name in _SUMS:
        return "sums"
    return "moves" if name in affine.MOVING and is_affine else "other"


@dataclass(frozen=True)
class TensorChannels:
    """The entries of a parameter along a dimension, each with its channel."""

    place: TensorDim
    channels: Tensor


@dataclass(frozen=True)
class Read:
    """A layer that sums over the channels of a value, which lie along `axis` of it."""

    node: Node
    value: int
    axis: int
    channels: Tensor


class Channels:
    """The channels of a module whose pass was recorded.

    `entries` are those of its parameters, in the order of the pass; `reads` the layers that sum over channels, as
    far as an output or a site depends on them: after those nothing is left of their size.
    """

    def __init__(self, module: nn.Module, tape: Tape) -> None:
        """Walk over the pass, also over what no output depends on: its layers have to fit too."""
        self.entries: list[TensorChannels] = []
        self.reads: list[Read] = []
        self.joining = Joining()
        self.parameters = NamedTensors(module, tape.nodes)
        self._used = tape.ancestors([*tape.outputs, *(site.number for site in tape.sites if site.number is not None)])
        self._labels: dict[int, Tensor] = {}
        self._readers: dict[int, list[Node]] = {}
        for node in tape.nodes:
            is_used = node.number in self._used
            for parent in node.parents if is_used else ():
                self._readers.setdefault(parent, []).append(node)
            if is_used or (node.pick in (None, 0) and all(parent in self._labels for parent in node.parents)):
                self._labels[node.number] = self._made_by(node)
        for number in tape.outputs:
            self.joining.stop(self._labels[number], "it is part of the output")

    def of_value(self, number: int) -> Tensor:
        """The channel of each entry of a value; joined ones have the same number."""
        return self.joining.root(self._labels[number])

    def readers(self, number: int) -> Sequence[Node]:
        """The values that are made of one, as far as an output or a site depends on them."""
        return self._readers.get(number, ())

    def _made_by(self, node: Node) -> Tensor:
        if node.operator == INPUT:
            return self._alone(node, "it is joined with an input of the model")
        if node.obstacle:
            return self._ended(node, node.obstacle)
        ways = {
            "linear": self._linear,
            "convolution": self._convolution,
            "norm": self._norm,
            "entries": self._entry_by_entry,
            "windows": self._windows,
            "sums": self._sums,
            "moves": self._moves,
        }
        kind = kind_of(node)
        return ways[kind](node) if kind in ways else self._ended(node, f"{node.operator} reads it")

    def _linear(self, node: Node) -> Tensor:
        bias, first, weight = node.args[:3] if node.operator == "addmm" else (None, *node.args[:2])
        if not isinstance(first, Ref) or not isinstance(weight, Tensor):
            return self._ended(node, "a product of two values of the data reads it")
        labels = self._labels[first.number]
        columns = _along(labels, 1)
        if columns is None:  # a layer over positions, such as a mixer's
            rows = _along(labels, 0)
            return self._ended(node, _mixes(node)) if rows is None else rows.view(-1, 1).expand(node.shape)
        made = self.joining.new(node.shape[1])
        self._read(Read(node, first.number, 1, columns))
        self._cut(weight.t(), 1, columns)
        self._cut(weight.t(), 0, made)
        self._cut(bias, 0, made)
        return made.expand(node.shape)

    def _convolution(self, node: Node) -> Tensor:
        weight, bias, transposed, groups = node.args[1], node.args[2], node.args[6], node.args[8]
        columns = _along(self._labels[node.parents[0]], 1)
        if columns is None:
            return self._ended(node, _mixes(node))
        if groups == 1:
            made = self.joining.new(node.shape[1])
            self._read(Read(node, node.parents[0], 1, columns))
            self._cut(weight, 0 if transposed else 1, columns)
            self._cut(weight, 1 if transposed else 0, made)
        else:  # a group goes as a whole
            together = columns.view(groups, -1)
            self.joining.join(together, together[:, :1].expand_as(together), _GROUPED)
            made = together[:, 0].repeat_interleave(node.shape[1] // groups)
            self._cut(weight, 0, columns if transposed else made)
        self._cut(bias, 0, made)
        return made.view(1, -1, *[1] * (len(node.shape) - 2)).expand(node.shape)

    def _norm(self, node: Node) -> Tensor:
        labels = self._labels[node.parents[0]]
        columns = _along(labels, 1)
        if columns is None:
            return labels if not _varies(labels, 1) else self._ended(node, _mixes(node))
        for each in node.args[1:5]:
            self._cut(each, 0, columns)
        return labels

    def _entry_by_entry(self, node: Node) -> Tensor:
        """One value, or several that are as large; constants of their size are cut too."""
        across = [_aligned(self._labels[arg.number], node) for arg in node.args if isinstance(arg, Ref)]
        kept = []
        for place, labels in enumerate(across):
            others = [other for at, other in enumerate(across) if at != place]
            spread = [dim for dim, size in enumerate(labels.shape) if size == 1 < node.shape[dim]]
            if any(_varies(other, dim) for other in others for dim in spread):
                self.joining.stop(labels, f"{node.operator} spreads it over others")
            else:
                kept.append(labels.expand(node.shape))
        if not kept:
            return self._alone(node, _not_of_a_layer(node))
        for other in kept[1:]:
            self.joining.join(
                kept[0], other, _JOINED.get(node.operator, f"{node.operator} joins it with another branch")
            )
        for tensor in (arg for arg in node.args if isinstance(arg, Tensor)):
            for dim in range(tensor.ndim):
                whole = dim - tensor.ndim + len(node.shape)
                if tensor.shape[dim] > 1 and _varies(kept[0], whole):
                    columns = _along(kept[0], whole)
                    if columns is None:
                        self.joining.stop(kept[0], _mixes(node))
                    else:
                        self._cut(tensor, dim, columns)
        return kept[0]

    def _windows(self, node: Node) -> Tensor:
        """Pools and resizing, over the last axes."""
        labels = self._labels[node.parents[0]]
        found = _WINDOWS.search(node.operator)
        first = labels
        for axis in range(int(next(filter(None, found.groups()))) if found else 0):
            first = first.narrow(-1 - axis, 0, 1)
        if not torch.equal(first.expand(labels.shape), labels):
            return self._ended(node, _mixes(node))
        return first.expand(node.shape)

    def _sums(self, node: Node) -> Tensor:
        labels = self._labels[node.parents[0]]
        given = node.args[1] if len(node.args) > 1 else None
        dims = [int(dim) % max(labels.ndim, 1) for dim in given] if isinstance(given, (list, tuple)) and given else []
        dims = dims or list(range(labels.ndim))
        if any(_varies(labels, dim) for dim in dims):
            return self._ended(node, _mixes(node))
        for dim in dims:
            labels = labels.narrow(dim, 0, 1)
        return labels.reshape(node.shape)

    def _moves(self, node: Node) -> Tensor:
        """Labels move as the entries do; what is new among them is of no channel that can go."""
        if node.operator == "constant_pad_nd":
            return self._padded(node)
        fixed = float(self._alone(node, _not_of_a_layer(node)).flatten()[0])

        def as_label(leaf: object) -> object:
            is_float = isinstance(leaf, Tensor) and leaf.is_floating_point()
            return torch.full_like(leaf, fixed + 1, dtype=torch.float64) if is_float else leaf  # type: ignore[arg-type]

        args = tree_map(as_label, node.args, is_leaf=lambda leaf: isinstance(leaf, Ref))
        values = {parent: self._labels[parent].double() + 1 for parent in node.parents}
        moved = replace(node, args=args).run(values, torch.float64).long() - 1  # a zero that it fills in is now −1
        return torch.where(moved < 0, int(fixed), moved)

    def _padded(self, node: Node) -> Tensor:
        """Padding is of the channel that it pads, or of none."""
        labels = self._labels[node.parents[0]]
        for place in range(0, len(node.args[1]), 2):
            dim = labels.ndim - 1 - place // 2
            before, after = node.args[1][place : place + 2]
            index = torch.arange(-before, labels.shape[dim] + after)
            inside = (index >= 0) & (index < labels.shape[dim])
            if _varies(labels, dim) and not bool(inside.all()):
                fixed = self._alone(node, _not_of_a_layer(node)).flatten()[0]
                over = [1] * labels.ndim
                over[dim] = -1
                labels = labels.index_select(dim, index.clamp(0, labels.shape[dim] - 1))
                labels = torch.where(inside.view(over), labels, fixed)
            else:
                labels = labels.index_select(dim, index.clamp(0, labels.shape[dim] - 1))
        return labels

    def _read(self, read: Read) -> None:
        if read.node.number in self._used:
            self.reads.append(read)

    def _cut(self, tensor: object, dim: int, channels: Tensor) -> None:
        """Note whose the entries of a constant are, which has to be a parameter or a buffer."""
        if not isinstance(tensor, Tensor):
            return
        try:
            self.entries.append(TensorChannels(self.parameters.place(tensor, dim), channels))
        except ValueError as error:
            self.joining.stop(channels, str(error))

    def _alone(self, node: Node, why: str) -> Tensor:
        """One channel for all of a value, which cannot go."""
        made = self.joining.new(1)
        self.joining.stop(made, why)
        return made[0].expand(node.shape)

    def _ended(self, node: Node, why: str) -> Tensor:
        """The labels of what an operator makes that channels cannot be followed through: none that it reads can go."""
        for parent in node.parents:
            self.joining.stop(self._labels[parent], why)
        return self._alone(node, _not_of_a_layer(node))


def _not_of_a_layer(node: Node) -> str:
    return f"it is not made by a layer and a batch norm alone, but by {node.operator or 'what cannot be followed'}"


def _mixes(node: Node) -> str:
    return f"{node.operator} mixes its units"


def _along(labels: Tensor, dim: int) -> Tensor | None:
    """The channel of each index along `dim`; None where an index is of several."""
    rows = labels.movedim(dim, 0).flatten(1)
    return rows[:, 0].clone() if bool((rows == rows[:, :1]).all()) else None


def _varies(labels: Tensor, dim: int) -> bool:
    """Whether the channels differ along `dim`."""
    return not bool((labels == labels.narrow(dim, 0, 1)).all())


def _aligned(labels: Tensor, node: Node) -> Tensor:
    """With as many axes as the value has."""
    return labels[(None,) * (len(node.shape) - labels.ndim)]
