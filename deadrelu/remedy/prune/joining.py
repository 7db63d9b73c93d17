"""Channels by number: which are joined, so that they go together, and which cannot go at all."""

from __future__ import annotations

import torch
from torch import Tensor


class Joining:
    """Numbers for channels. Those that are joined have one root, the smallest of them."""

    def __init__(self) -> None:
        """There are none yet."""
        self._above: list[int] = []
        self._stuck: dict[int, str] = {}
        self._how: dict[int, str] = {}

    def new(self, count: int) -> Tensor:
        """Channels that were not there before."""
        first = len(self._above)
        self._above += range(first, first + count)
        return torch.arange(first, first + count)

    def stop(self, channels: Tensor, why: str) -> None:
        """None of these can go."""
        for channel in channels.unique().tolist():
            self._stuck.setdefault(channel, why)

    def join(self, first: Tensor, second: Tensor, how: str) -> None:
        """Each of the first goes with the second at the same place; `how` says what joins them."""
        if torch.equal(first, second):
            return
        pairs = torch.stack([first.flatten(), second.flatten()]).unique(dim=1)
        for a, b in pairs.t().tolist():
            one, other = sorted((self._root(a), self._root(b)))
            self._above[other] = one
            self._how.setdefault(a, how)

    def root(self, channels: Tensor) -> Tensor:
        """The number by which each goes, with all that are joined with it."""
        found, place = channels.unique(return_inverse=True)
        return torch.tensor([self._root(each) for each in found.tolist()])[place].view(channels.shape)

    def stuck(self) -> dict[int, str]:
        """Why channels cannot go, by their root."""
        found: dict[int, str] = {}
        for channel, why in self._stuck.items():
            found.setdefault(self._root(channel), why)
        return found

    def joined(self) -> dict[int, str]:
        """What joined channels with others, by their root."""
        return {self._root(channel): how for channel, how in self._how.items()}

    def _root(self, channel: int) -> int:
        while self._above[channel] != channel:
            self._above[channel] = self._above[self._above[channel]]
            channel = self._above[channel]
        return channel
