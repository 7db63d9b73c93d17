"""What a scan must find: counted in numpy from the pre-activations that the network itself records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.networks.network import Built

Array = np.ndarray[Any, Any]
NEARLY = 1e-5
"""A pre-activation nearer to an edge than this share of the largest may round to either side."""
TAIL = 4.584863339122355
"""Beyond it, on either side, the derivative of a sigmoid is at most 0.01."""
FIRES = {
    "relu": (0.0, np.inf), "leaky_relu": (-np.inf, np.inf), "elu": (-4.605170185988091, np.inf),
    "gelu": (-3.0674272039089, np.inf), "sigmoid": (-TAIL, TAIL), "glu": (-TAIL, TAIL),
    "tanh": (-2.9932228461263812, 2.9932228461263812),
}  # fmt: skip
"""Between which pre-activations the derivative is larger than 0.01, or crosses zero."""


class UnrunnableError(Exception):
    """Torch itself refuses the network at a batch size, such as an in-place operator on a view that overlaps there."""


@dataclass(frozen=True)
class Counts:
    """At how many positions each unit fires, and at how many rounding decides; of how many there are a unit."""

    fires: Array
    unsure: Array
    positions: int

    def __add__(self, other: Counts) -> Counts:
        """The counts of two batches."""
        return Counts(self.fires + other.fires, self.unsure + other.unsure, self.positions + other.positions)


@dataclass(frozen=True)
class Expected:
    """What a site must show; more than one reading where it is disputed which axis holds the features.

    Ranks are counted too, but not told apart as units: only a single one is a unit, and to skip the site is right.
    """

    id: str
    layout: str
    op: str
    readings: tuple[Counts, ...]

    @property
    def is_by_rank(self) -> bool:
        """Whether the features are sorted, so that an index is not always the same one."""
        return "R" in self.layout


def expected(built: Built, batches: Sequence[Tensor]) -> list[Expected]:
    """Run the recording network over the batches, and count at each call. Raises `UnrunnableError`."""
    readings = [list(layouts(call.layout)) for call in built.calls]
    totals: list[list[list[Counts]]] = [[[] for _ in options] for options in readings]
    for batch in batches:
        built.recorder.record.clear()
        try:
            with torch.no_grad():
                built.recorder(batch.clone())
        except RuntimeError as error:
            raise UnrunnableError(str(error)) from error
        for call, z, options, total in zip(built.calls, built.recorder.record, readings, totals, strict=True):
            for layout, counts in zip(options, total, strict=True):
                counts.append(count(z.numpy().astype(np.float64), layout, call.op))
    return [
        Expected(call.id, call.layout, call.op, tuple(reduce(Counts.__add__, counts) for counts in total))
        for call, total in zip(built.calls, totals, strict=True)
    ]


def layouts(layout: str) -> Iterator[str]:
    """The layout with each disputed axis (f) either of features or of positions, but with features somewhere."""
    for letters in product(*("FP" if letter == "f" else letter for letter in layout)):
        if "f" not in layout or "F" in letters:
            yield "".join(letters)


def count(z: Array, layout: str, op: str) -> Counts:
    """The counts of one pre-activation; units (or ranks) are the combinations of the F axes in axis order."""
    features = [axis for axis, letter in enumerate(layout) if letter in "FR"]
    units = int(np.prod([z.shape[axis] for axis in features]))
    rows = np.moveaxis(z, features, range(len(features))).reshape(units, -1)
    low, high = FIRES[op]
    distance = np.minimum(np.abs(rows - low), np.abs(rows - high))
    near = (distance < NEARLY * np.abs(rows).max(initial=0.0)) & (rows != 0)
    return Counts(((rows > low) & (rows < high)).sum(1), near.sum(1), rows.shape[1])
