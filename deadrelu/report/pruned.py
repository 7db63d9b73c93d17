"""What was removed from a model, and what that changed: `Pruned`, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deadrelu.text.wording import count, printable

PRUNED_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A dead unit that was not removed, and why."""

    unit: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SitePruned:
    """What was removed of one site: how many units it had, how many were dead, and why some of these stay.

    Units that fire are among the removed ones where nothing reads them but what is dead. `merged_units` were always on,
    and `merged_into` units do now what they did.
    """

    id: str
    units: int
    dead: int
    removed_units: tuple[int, ...] = ()
    merged_units: tuple[int, ...] = ()
    merged_into: int = 0
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The size of a model: its parameters, the bytes of its file (None where it is not in one), its dead units.

    `multiply_adds` are those of one sample, `milliseconds` the median time of one pass of a batch; None where unknown.
    """

    parameters: int
    bytes: int | None
    dead: int
    multiply_adds: int | None = None
    milliseconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class OutputDrift:
    """The largest absolute difference of the outputs: 0 where they are the same to the last bit."""

    max_abs: float


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What pruning did to a model, as measured on the file after it was read back in a fresh process.

    `layers` maps each layer whose size changed to its old and new construction; with `layers_in_code` a state dict was
    written, for which they have to change in the code. `next_command` scans what was written. `sha256` is the hash of
    the written file; opening it needs trust if `needs_trust`, and the code `needs_arch` if that is not None.
    """

    model: str | None
    output: str | None
    format: str
    samples: int
    proved: bool
    sites: tuple[SitePruned, ...]
    before: ModelSize
    after: ModelSize
    drift: OutputDrift
    layers: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    needs_trust: bool = False
    needs_arch: str | None = None
    layers_in_code: bool = False
    next_command: str | None = None

    @property
    def removed(self) -> int:
        """How many units were removed."""
        return sum(len(site.removed_units) for site in self.sites)

    @property
    def merged(self) -> int:
        """How many units were spared by merging."""
        return sum(len(site.merged_units) - site.merged_into for site in self.sites)

    @property
    def changed(self) -> bool:
        """Whether the model is smaller than it was."""
        return bool(self.removed or self.merged)

    @property
    def unread(self) -> int:
        """How many of them were not dead."""
        return sum(len(site.removed_units) + len(site.kept) - site.dead for site in self.sites)

    def __repr__(self) -> str:
        """One line: the output, how many units it has less, and how many dead ones were kept."""
        kept = sum(len(site.kept) for site in self.sites)
        removed = self.removed + self.merged
        return printable(f"<Pruned {self.output or 'in memory'}: {count(removed, 'unit')} removed, {kept:,} kept>")

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {"schema_version": PRUNED_VERSION, **asdict(self)}
