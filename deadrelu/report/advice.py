"""The data of `suggest` and `patch`: what to do about each sick site, and what a patch changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from deadrelu.text.wording import count, printable

_MOST = 5
"""How many ailments a `repr` names."""

Ailment = Literal[
    "input scale",
    "non-finite",
    "wholly dead",
    "mostly dead",
    "some dead",
    "rare",
    "synthetic data",
    "too few samples",
    "skipped",
]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One source edit: on `line` of `file`, from `column` on (both from 1), `old` becomes `new`."""

    file: str
    line: int
    column: int | None
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """One thing to do and why: a shell command, a Python statement, or edits of the source."""

    title: str
    why: str
    command: str | None = None
    python: str | None = None
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SiteAdvice:
    """The ailment of one site (None: of the whole scan) and its remedies, best first."""

    site: str | None
    ailment: Ailment
    says: str
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, kw_only=True)
class GroupAdvice:
    """The advice that sites with the same ailment and remedies share; each site also has its own."""

    sites: tuple[str, ...]
    ailment: Ailment
    says: str
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The advice on one report.

    `first` comes before anything else (non-finite values, weak evidence). `whole` holds remedies for all sick sites at
    once, best first; `groups` puts sites that need the same together; `items` has each sick site by itself, in the
    order in which they ran, and then the skipped ones.
    """

    model: str | None
    data: str | None
    first: tuple[SiteAdvice, ...]
    whole: tuple[Remedy, ...]
    groups: tuple[GroupAdvice, ...]
    items: tuple[SiteAdvice, ...]
    caution: str

    def __repr__(self) -> str:
        """One line: the model and its ailments."""
        ailments = ", ".join(f"{item.site or 'the whole scan'} {item.ailment}" for item in self.items[:_MOST])
        more = f" and {len(self.items) - _MOST:,} more" if len(self.items) > _MOST else ""
        return printable(f"<Advice on {self.model or 'a model in memory'}: {ailments or 'nothing to do'}{more}>")

    def to_dict(self) -> dict[str, Any]:
        """The advice as JSON types."""
        return {"schema_version": 1, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class SiteChange:
    """One swapped site: its old and new activation, its dead units before and after, and which now receive gradient.

    `with_gradient` is None if it was not measured; it is taken after the `gradient_steps` of the result.
    """

    site: str
    old: str
    new: str
    units: int
    dead_before: tuple[int, ...]
    dead_after: tuple[int, ...]
    with_gradient: tuple[int, ...] | None
    reinitialised: tuple[int, ...] = ()
    note: str = ""

    def __repr__(self) -> str:
        """One line, without unit numbers."""
        dead = f"{len(self.dead_before):,} → {len(self.dead_after):,} of {count(self.units, 'unit')} dead"
        return printable(f"<SiteChange {self.site}: {self.old} → {self.new}, {dead}>")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A chosen site that was not swapped: why, and the edit to make by hand if one is known."""

    site: str
    reason: str
    edit: Edit | None = None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the output moved, over all samples.

    `relative_l2` is ‖after − before‖₂ / ‖before‖₂, None if the output was zero; `largest` is the largest absolute
    difference; `same_argmax` is the share of rows (0..1) with the same largest entry, None if there are no classes.
    """

    relative_l2: float | None
    largest: float
    same_argmax: float | None


@dataclass(frozen=True, kw_only=True)
class PatchResult:
    """What a patch changed, as measured on the file after it was read back in a fresh process.

    `edits` make the same change in the source code. `dead_before` and `dead_after` count dead units by site id. A
    preview has no `drift`, and nothing after it. `gradient_steps` is how many optimiser steps a copy made before the
    gradient was taken: one if units were re-initialised, since the weights out of these are zero.

    Where one line of the source makes several activations that get different replacements, `edits` leaves them out, and
    `python` has the statements that swap them after the model is built. `next_command` scans what was written.

    `sha256` is the hash of the written file (None for a folder and for a live module). Opening it needs trust if
    `needs_trust`, and the code `needs_arch` if that is not None. It `opens_as_before` if it is of the same kind as the
    original, and takes the same options.
    """

    model: str | None
    output: str | None
    format: str
    samples: int
    changes: tuple[SiteChange, ...]
    refused: tuple[Refusal, ...]
    edits: tuple[Edit, ...]
    dead_before: Mapping[str, int]
    dead_after: Mapping[str, int]
    drift: Drift | None
    parameters_changed: tuple[str, ...]
    notes: tuple[str, ...] = ()
    gradient_steps: int = 0
    sha256: str | None = None
    needs_trust: bool = False
    needs_arch: str | None = None
    python: tuple[str, ...] = ()
    next_command: str | None = None
    opens_as_before: bool = False

    def __repr__(self) -> str:
        """One line: the output, how many sites were swapped, and the dead units before and after."""
        swapped = f"{count(len(self.changes), 'site')} swapped, {len(self.refused):,} refused"
        before = sum(self.dead_before.values())
        dead = (
            f"{before:,} units dead" if self.drift is None else f"{before:,} → {sum(self.dead_after.values()):,} dead"
        )
        return printable(f"<PatchResult {self.output or 'in memory'}: {swapped}, {dead}>")

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {"schema_version": 1, **asdict(self)}
