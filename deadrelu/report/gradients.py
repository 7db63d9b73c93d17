"""The gradients of a loss in a report: what was summed at each site, and the figures of the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class GradientSums:
    """What was summed of the gradients at one site, over all positions, with one entry a unit. Two of them add.

    `squares` is the sum of (dL/dz)² and `is_zero` whether each dL/dz was exactly 0, z being the pre-activation; `sizes`
    is the sum of |dL/dh|, h being the output, None where the output could not be seen.
    """

    squares: tuple[float, ...]
    is_zero: tuple[bool, ...]
    sizes: tuple[float, ...] | None

    def plus(self, other: GradientSums) -> GradientSums:
        """Return the sums over the positions of both."""
        sizes = None
        if self.sizes is not None and other.sizes is not None:
            sizes = tuple(map(float.__add__, self.sizes, other.sizes))
        return GradientSums(
            squares=tuple(map(float.__add__, self.squares, other.squares)),
            is_zero=tuple(a and b for a, b in zip(self.is_zero, other.is_zero, strict=True)),
            sizes=sizes,
        )


@dataclass(frozen=True, kw_only=True)
class LossBatch:
    """One batch: its loss, its samples, and the norm of the gradient of all parameters together."""

    value: float
    samples: int
    norm: float


@dataclass(frozen=True, kw_only=True)
class LossRecord:
    """The batches of a scan with a loss; `right` of so many `predictions` name the class of the label."""

    loss: str
    batches: tuple[LossBatch, ...]
    right: int = 0
    predictions: int = 0

    def plus(self, other: LossRecord) -> LossRecord:
        """Return the record of the batches of both."""
        return LossRecord(
            loss=self.loss,
            batches=(*self.batches, *other.batches),
            right=self.right + other.right,
            predictions=self.predictions + other.predictions,
        )


@dataclass(frozen=True, kw_only=True)
class GradientNorms:
    """The norms of the gradients of the batches; None where one that matters is not finite."""

    median: float | None
    p95: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The gradients of the whole model: what `gradients` holds in a report.

    `value` is the mean loss of a sample, `accuracy` the share of predictions that are right (None unless labels are
    classes), `clip` the value to clip gradient norms at, and `first_to_last` the RMS of the gradient at the first site
    over that at the last.
    """

    loss: str
    value: float | None
    accuracy: float | None
    norm: GradientNorms
    clip: float | None
    first_to_last: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Gradients:
        """Read back what `to_dict` returned."""
        return cls(**{**data, "norm": GradientNorms(**data["norm"])})
