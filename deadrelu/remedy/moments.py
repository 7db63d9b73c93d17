"""What an optimizer remembers of each weight: which tensors these are, and what they become for a new weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from deadrelu.errors import UsageError
from deadrelu.load.optimizer import FIRST_MOMENTS, SECOND_MOMENTS

Moments = Literal["live mean", "zero", "keep"]
"""What happens to an optimizer's memory of restarted weights."""


@dataclass(frozen=True)
class UnitEntries:
    """Some entries of a parameter: those that belong to units, `width` indices each along dimension `dim`."""

    parameter: Tensor
    dim: int = 0
    width: int = 1

    def of(self, units: Iterable[int]) -> Tensor:
        """The indices along `dim` of these units."""
        starts = torch.tensor(sorted(units), dtype=torch.int64, device=self.parameter.device) * self.width
        return (starts[:, None] + torch.arange(self.width, device=starts.device)).flatten()


def read_moments(moments: str) -> Moments:
    """Read a choice. Raises `UsageError`."""
    found = next((each for each in get_args(Moments) if each == moments), None)
    if found is None:
        raise UsageError(f"moments={moments!r} is not known", hint="'live mean', 'zero' or 'keep'")
    choice: Moments = found
    return choice


def check_state(states: Iterable[tuple[Tensor, Mapping[str, Any]]], kind: str) -> None:
    """Raise `UsageError` where an optimizer keeps something of each weight that is not known."""
    for parameter, state in states:
        for name, value in state.items():
            known = (
                name in FIRST_MOMENTS | SECOND_MOMENTS and isinstance(value, Tensor) and value.shape == parameter.shape
            )
            if not known and (isinstance(value, list) or (isinstance(value, Tensor) and value.numel() > 1)):
                raise UsageError(
                    f"{kind} keeps `{name}` of its weights, and what it should be for a new one is not known",
                    hint="take moments='keep', or SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, NAdam, RAdam or Adamax",
                )


@torch.no_grad()
def mend(
    state: MutableMapping[str, Any], entries: UnitEntries, new: Iterable[int], live: Iterable[int], moments: Moments
) -> None:
    """Make what the optimizer remembers of `new` units as if they had trained like the `live` ones, in place.

    Means of gradients become 0; sizes of gradients become their mean over all weights of the live units, or 0 with
    "zero" (as the code of Sokar et al. 2023 does) and where no unit is live. `step` counts are of the whole tensor, and
    stay.
    """
    if moments == "keep":
        return
    at, peers = entries.of(new), entries.of(live)
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.shape != entries.parameter.shape:
            continue
        fill = value.new_zeros(())
        if name in SECOND_MOMENTS and moments == "live mean" and len(peers):
            fill = value.index_select(entries.dim, peers.to(value.device)).mean()
        value.index_fill_(entries.dim, at.to(value.device), fill)
