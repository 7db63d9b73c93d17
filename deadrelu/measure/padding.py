"""Leaves out the positions that `attention_mask` marks as padding: they are no data.

It applies where a pre-activation is `(N, T, F)`, or flattened to `(N·T, F)`, with the N and T of the mask (1 or True
for a real token). In a model with decoder inputs, sites below a module called `decoder` go by `decoder_attention_mask`.
A pre-activation of any other shape (a convolution over time, pooled or packed tokens) is counted whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadrelu.programs.program import Batch, CallSite, Features


@dataclass(frozen=True)
class Tokens:
    """The real tokens of one batch of `samples` sequences of `length`: where they stand in `(N·T)`, by their number.

    Each of `groups` holds the samples with the same number of real tokens: how many samples, and the places.
    """

    samples: int
    length: int
    groups: tuple[tuple[int, Tensor], ...]

    @classmethod
    def of(cls, mask: Any, samples: int) -> Tokens | None:
        """From a mask `(N, T)` of zeros and ones; None where it is no such mask, or where nothing is padded."""
        if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != samples:
            return None
        real = mask.detach().cpu() != 0
        if real.all() or not real.any() or not ((mask == 0) | (mask == 1)).all():
            return None
        lengths, places = real.sum(1), torch.arange(real.numel()).view(real.shape)
        groups = []
        for length in sorted({int(n) for n in lengths if n > 0}):
            rows = lengths == length
            groups.append((int(rows.sum()), places[rows][real[rows]]))
        return cls(samples, real.shape[1], tuple(groups))

    def parts(self, z: Tensor, features: Features) -> Iterator[tuple[Tensor, int]] | None:
        """The real positions of `z`, cut into tensors without padding; None where `z` is not laid out by the tokens."""
        axes = [axis % z.ndim for axis in features.axes]
        flat = z.ndim == 2 and len(z) == self.samples * self.length
        if axes != [z.ndim - 1] or not (flat or (z.ndim == 3 and z.shape[:2] == (self.samples, self.length))):
            return None
        rows = (z.dequantize() if z.is_quantized else z).reshape(-1, z.shape[-1])
        return self._flat(rows) if flat else self._by_length(rows)

    def _flat(self, rows: Tensor) -> Iterator[tuple[Tensor, int]]:
        places = torch.cat([places for _, places in self.groups]).sort().values
        yield rows.index_select(0, places.to(rows.device)), sum(samples for samples, _ in self.groups)

    def _by_length(self, rows: Tensor) -> Iterator[tuple[Tensor, int]]:
        for samples, places in self.groups:
            yield rows.index_select(0, places.to(rows.device)).view(samples, -1, rows.shape[1]), samples


class Padding:
    """What is padding in one batch."""

    def __init__(self, batch: Batch, parameter_names: Sequence[str]) -> None:
        """Read the masks among what the model is given, by keyword or by position."""
        given: Mapping[str, Any] = dict(zip(parameter_names, batch.args, strict=False)) | dict(batch.kwargs)
        self._samples = batch.samples
        self._has_decoder = any(name.startswith("decoder_") for name in given)
        self._own = Tokens.of(given.get("attention_mask"), batch.samples)
        self._decoder = Tokens.of(given.get("decoder_attention_mask"), batch.samples)
        self.is_there = self._own is not None or self._decoder is not None
        """Whether any token is padding."""

    def parts(self, site: CallSite, z: Tensor, features: Features) -> Iterator[tuple[Tensor, int]]:
        """What of a pre-activation is data, as tensors with the number of samples in each; all of it without a mask."""
        tokens = self._tokens_at(site)
        parts = tokens.parts(z, features) if tokens is not None and z.ndim else None
        if parts is None:
            yield z, self._samples
        else:
            yield from parts

    def _tokens_at(self, site: CallSite) -> Tokens | None:
        """The mask that holds at a site: what stands beside encoder and decoder of a model with both has none."""
        if not self._has_decoder:
            return self._own
        path = site.module.split(".")
        return self._decoder if "decoder" in path else self._own if "encoder" in path else None
