"""What an optimizer remembers of each weight: which tensors these are, and what they become for a new weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from deadrelu.errors import UsageError

Moments = Literal["live mean", "zero", "keep"]
"""What happens to an optimizer's memory of restarted weights."""

_FIRST = frozenset({"exp_avg", "momentum_buffer", "grad_avg", "acc_delta"})
"""Means of gradients or of steps: of a new weight nothing is known, so 0."""

_SECOND = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf"})
"""Sizes of gradients, by which a step is divided: near 0 they would make the first steps of a new weight huge."""


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
            each = isinstance(value, Tensor) and value.shape == parameter.shape and parameter.ndim > 0
            if each and name not in _FIRST | _SECOND:
                raise UsageError(
                    f"{kind} keeps `{name}` of each weight, and what it should be for a new one is not known",
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
        if name in _SECOND and moments == "live mean" and len(peers):
            fill = value.index_select(entries.dim, peers.to(value.device)).mean()
        value.index_fill_(entries.dim, at.to(value.device), fill)
