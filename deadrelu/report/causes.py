"""Why a unit is dead, and what entered the model: nouns of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Cause = Literal["bias", "norm", "input mean", "weights", "upstream", "cap", "unknown"]
"""What keeps a dead unit down; `judge.causes.find_causes` says when each is named."""

CauseEvidence = Mapping[str, "float | str | tuple[int, ...] | None"]


@dataclass(frozen=True, kw_only=True)
class Wakes:
    """A change of one number that makes a dead unit fire: `add` to its entry of `parameter`, on so many `samples`."""

    parameter: str
    add: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class UnitCause:
    """Why one unit is dead, with the figures that show it, and what would wake it (None if that is not known)."""

    unit: int
    cause: Cause
    evidence: CauseEvidence = field(hash=False)
    wakes: Wakes | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UnitCause:
        """Read back what `dataclasses.asdict` made of one."""
        evidence = {key: tuple(value) if isinstance(value, list) else value for key, value in data["evidence"].items()}
        wakes = None if data["wakes"] is None else Wakes(**data["wakes"])
        return cls(unit=data["unit"], cause=data["cause"], evidence=evidence, wakes=wakes)


@dataclass(frozen=True, kw_only=True)
class NormScale:
    """How far what entered a batch norm is from its running statistics, in the median channel.

    `mean_shift` is |mean − running mean| / sqrt(running variance), and `variance_ratio` variance / running variance.
    """

    layer: str | None
    mean_shift: float | None
    variance_ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What entered the first layer with weights, and each batch norm that was trained, on the first `samples`."""

    layer: str | None
    samples: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    batch_norms: tuple[NormScale, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """These figures as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inputs:
        """Read back what `to_dict` returned."""
        return cls(**{**data, "batch_norms": tuple(NormScale(**norm) for norm in data["batch_norms"])})
