"""Finds masks and lengths among the arguments of a forward, by the names of its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from deadrelu.measure.padding.tokens import Tokens, can_be_read, read_mask

Side = Literal["encoder", "decoder"]

# Not every name with this ending: a `global_attention_mask` is 1 at few of the real tokens.
_KEEPS = re.compile(r"^(encoder_|decoder_|src_|tgt_|source_|target_|text_)?(attention|input)_mask$")
_DROPS = re.compile(r"(^|_)(padding|pad)_mask$")
_LENGTHS = re.compile(r"(^|_|seq|seqs)(lens?|lengths?)$")
_SIDES: tuple[tuple[str, Side], ...] = (
    *((prefix, "decoder") for prefix in ("decoder_", "tgt", "trg", "target")),
    *((prefix, "encoder") for prefix in ("encoder_", "memory_", "src", "source")),
)


@dataclass(frozen=True, eq=False)
class Mask:
    """Which positions are padding, the `name` of the argument that marks them, and where that holds.

    `scope` is the path of the module that got it, "" for the model: it holds for what runs inside. `side` is the half
    of an encoder–decoder model for which it is meant, and `rivals` are the lengths of the inputs of the other half.
    `time_first` says that the module works on `(T, N, F)`. With `is_cut`, padding that all sequences share was cut
    off before the mask was made: an input may be longer.
    """

    tokens: Tokens
    name: str
    scope: str = ""
    side: Side | None = None
    rivals: frozenset[int] = frozenset()
    time_first: bool = False
    is_cut: bool = False

    def at_lengths(self, sizes: Iterable[int]) -> Iterator[Mask]:
        """The mask, and the same mask for inputs of these lengths if it `is_cut` and they are longer."""
        yield self
        samples, length = self.tokens.real.shape
        for size in sizes:
            if self.is_cut and size > length:
                rest = torch.zeros(samples, size - length, dtype=torch.bool)
                yield replace(self, tokens=Tokens(torch.cat([self.tokens.real, rest], 1)))

    def as_of(self, other: Mask) -> Mask:
        """The same mask under the name of `other`, which was known before."""
        return replace(self, tokens=other.tokens, name=other.name)


def may_name_padding(name: str) -> bool:
    """Whether a parameter of this name may be a mask of padding, or lengths."""
    return any(pattern.search(name) for pattern in (_KEEPS, _DROPS, _LENGTHS))


def masks_in(given: Mapping[str, Any], scope: str = "", *, axis: int = 0) -> list[Mask]:
    """The masks among the arguments of one call, by name. `axis` is where its inputs have the samples.

    Of a model with decoder inputs, a mask whose name has no side is the encoder's.
    """
    has_decoder = any(name.startswith(("decoder_", "tgt", "trg")) for name in given)
    dim = 1 - axis
    found = []
    for name, value in given.items():
        side = _side_of(name)
        if _LENGTHS.search(name):
            own: set[Side | None] = {None, "encoder", "decoder"} if side is None else {side}
            own |= {None} if side == "encoder" else set()
            tokens = list(_of_lengths(value, _lengths_of_inputs(given, own, dim)))
        elif may_name_padding(name):
            tokens = [known] if (known := read_mask(value, one_is_padding=bool(_DROPS.search(name)))) else []
        else:
            continue
        side = side or ("encoder" if has_decoder else None)
        others: set[Side | None] = {None, "encoder"} if side == "decoder" else {"decoder"} if side else set()
        if side == "encoder" and not has_decoder and not name.startswith(("src", "source")):
            others = {None}  # the mask of what a decoder attends to, beside the decoder's own inputs
        rivals = frozenset(_lengths_of_inputs(given, others, dim))
        found += [Mask(each, name, scope, side, rivals, axis == 1) for each in tokens]
    return found


def tokens_of_packed(sequences: PackedSequence) -> Tokens:
    """The padding that a packing left out: sequences of `batch_sizes`, in the order before they were sorted."""
    sizes = sequences.batch_sizes.cpu()
    lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
    if sequences.unsorted_indices is not None:
        lengths = lengths[sequences.unsorted_indices.cpu()]
    return Tokens(torch.arange(len(sizes)) < lengths[:, None])


def _of_lengths(value: Any, sizes: set[int]) -> Iterator[Tokens]:
    """The padding of sequences of these lengths, in tensors that are as long as the longest, or as an input is."""
    if isinstance(value, (list, tuple)) and value and all(type(length) is int for length in value):
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or not can_be_read(value) or value.ndim != 1 or not value.numel():
        return
    lengths = value.detach().cpu()
    if lengths.is_complex() or lengths.dtype == torch.bool or not bool((lengths == lengths.round()).all()):
        return
    longest = int(lengths.max())
    if longest < 1 or int(lengths.min()) < 0 or not any(size >= longest for size in sizes):
        return
    for size in {longest, *(size for size in sizes if size >= longest)}:
        yield Tokens(torch.arange(size) < lengths[:, None])


def lengths_of_inputs(given: Mapping[str, Any], *, axis: int = 0) -> set[int]:
    """How long the inputs of a call are in time; `axis` is where they have the samples."""
    return _lengths_of_inputs(given, {None, "encoder", "decoder"}, 1 - axis)


def _side_of(name: str) -> Side | None:
    """The half of an encoder–decoder model that a parameter of this name belongs to."""
    return next((side for prefix, side in _SIDES if name.startswith(prefix)), None)


def _lengths_of_inputs(given: Mapping[str, Any], sides: set[Side | None], dim: int) -> set[int]:
    """How long the inputs of these sides are in time."""
    inputs = (value for name, value in given.items() if _side_of(name) in sides and not may_name_padding(name))
    return {value.shape[dim] for value in inputs if can_be_read(value) and value.ndim > 1}
