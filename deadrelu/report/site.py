"""One activation site and what was measured at it: `Site`, `SiteStats`, `Skipped`, `Leaky`.

Fractions are in 0..1. Per-unit tuples are in unit order. Non-finite numbers are `None` (JSON `null`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, SupportsIndex, overload

from deadrelu.text.wording import count, printable

Stats = Literal["fired", "rates", "full"]
"""How much is measured: which units fired at all; how often; and how high, how large, and whether all is finite."""

AxisBy = Literal["producer", "flag", "guess"]
"""Who says which axis holds the units: the layers around the call, `--feature-axis`, or nobody."""

NO_ROWS = "called, but never with any rows: no sample reached it"
"""The reason to skip a site whose pre-activations were all empty."""

_MOST_NEAR = 5


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where in the user's code a functional call stands; `column` and `end_column` count characters from 1."""

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """One activation call of the forward pass.

    `module` is the path of the activation module, or of the module whose forward made a functional call. `call`
    counts from 1 among the `calls` of the same module (or same function in the same module) in one forward.
    `shape` is the pre-activation's, with "N" for the samples and "*" for a size that varied. `feature_axis` tells the
    units apart; None where the whole tensor is one unit. `alias` is the id by which earlier versions knew a functional
    call, where that is another.
    """

    id: str
    op: str
    module: str
    call: int
    calls: int
    after: str | None
    source: Source | None
    swappable: bool
    feature_axis: int | None
    shape: tuple[int | str, ...]
    units: int
    feature_axis_by: AxisBy = "producer"
    alias: str | None = None

    @property
    def is_guessed(self) -> bool:
        """Whether its units are a guess, so that they pass and fail nothing."""
        return self.feature_axis_by == "guess"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted at one site; the raw material of `SiteStats`, one entry a unit. Two of them add.

    `rows` is how many slices along the first dimension were seen: `samples`, unless the site flattens time into
    the batch. `positions` is per unit. `maxima` is the largest finite pre-activation, or None if there was none.
    """

    samples: int
    rows: int
    positions: int
    fires: tuple[int, ...]
    row_fires: tuple[int, ...]
    maxima: tuple[float | None, ...]
    output_sums: tuple[float, ...]
    nonfinite: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SiteStats:
    """What was measured at one site; `sample_rate` is the share of samples (rows, if `rate_per` says so) that fired.

    From rates and `rows` and `positions` the counts come back exactly, so that reports can be added. With `stats`
    other than "full" maxima and means are None; with "fired" the rates of units that fired are None too, and `samples`
    are those on which the site was looked at: until each of its units had fired.
    """

    site: Site
    samples: int
    positions: int
    rows: int
    rate_per: Literal["sample", "row"]
    dead_units: tuple[int, ...]
    rare_units: tuple[int, ...]
    always_on_units: tuple[int, ...]
    nonfinite_units: tuple[int, ...]
    firing_rate: tuple[float | None, ...]
    sample_rate: tuple[float | None, ...]
    max_preactivation: tuple[float | None, ...]
    mean_activation: tuple[float | None, ...]
    dormancy: tuple[float | None, ...]
    silence_bound: float

    @property
    def knows_rates(self) -> bool:
        """Whether it was counted how often each unit fired; otherwise none is called rare or always on."""
        return None not in self.firing_rate

    @property
    def dead(self) -> int:
        """How many units fired at no position."""
        return len(self.dead_units)

    @property
    def dead_fraction(self) -> float:
        """Dead units over units, in 0..1."""
        return self.dead / self.site.units

    @property
    def headroom(self) -> float | None:
        """How near the nearest dead unit came to firing: the largest pre-activation that any of them saw."""
        seen = (self.max_preactivation[unit] for unit in self.dead_units)
        return max((value for value in seen if value is not None), default=None)

    def __repr__(self) -> str:
        """One line; the figures of each unit would fill the screen."""
        dead = f"{self.dead:,} of {count(self.site.units, 'unit')} dead"
        return printable(f"<SiteStats {self.site.id}: {dead} on {count(self.samples, 'sample')}>")


class Sites(tuple[SiteStats, ...]):
    """The figures of each site, in the order in which they ran; indexed by position, slice or id.

    `sites[0]`, `sites[:3]` and `sites["layer1.0.relu#1"]` all work, and so does `"layer1.0.relu#1" in sites`. Otherwise
    it is a plain tuple.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> SiteStats: ...
    @overload
    def __getitem__(self, key: slice) -> Sites: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> SiteStats | Sites:
        """A site, or several. Raises `KeyError` with the ids that come near, and `IndexError`."""
        if isinstance(key, str):
            for stats in self:
                if stats.site.id == key:
                    return stats
            raise KeyError(_missing(key, [stats.site.id for stats in self]))
        if isinstance(key, slice):
            return Sites(super().__getitem__(key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        """Whether a site with this id is there; for anything but a string, whether the item itself is."""
        if isinstance(key, str):
            return any(stats.site.id == key for stats in self)
        return super().__contains__(key)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A site that could not be measured, and why."""

    id: str
    op: str
    reason: str
    alias: str | None = None

    @property
    def is_unreached(self) -> bool:
        """Whether the data did not reach the site: other data, or another process, may."""
        return self.reason == NO_ROWS or self.reason.startswith("never called")


@dataclass(frozen=True, kw_only=True)
class Leaky:
    """A call of a leaky activation (LeakyReLU, PReLU, GELU, …): named, and not measured, since no unit of it dies.

    The fields are those of a `Site`; `units` is None where it is not known which axis holds them.
    """

    id: str
    op: str
    module: str
    call: int
    calls: int
    after: str | None
    units: int | None

    @property
    def alias(self) -> None:
        """No former id: earlier versions did not name such calls."""


def _missing(key: str, ids: Iterable[str]) -> str:
    """What to say where no site has this id: which ones come near, or which ones there are."""
    known = list(ids)
    if not known:
        return f"no site {key!r}: the report has none"
    near = [name for name in known if name.partition("#")[0] == key.partition("#")[0]]
    near = near or get_close_matches(key, known, n=_MOST_NEAR) or [n for n in known if key.lower() in n.lower()]
    shown = ", ".join(map(repr, (near or known)[:_MOST_NEAR]))
    return f"no site {key!r}; {'did you mean' if near else 'there are'} {shown}{'?' if near else ''}"
