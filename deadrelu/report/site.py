"""One activation site and what was measured at it: `Site`, `SiteStats`, `Skipped`.

Fractions are in 0..1. Per-unit tuples are in unit order. Non-finite numbers are `None` (JSON `null`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, SupportsIndex, overload

from deadrelu.activations import LEAKY
from deadrelu.report.causes import UnitCause
from deadrelu.text.wording import count, printable

Stats = Literal["fired", "rates", "full"]
"""How much is measured: which units fired; also how often; also maxima, means and non-finite values."""

AxisBy = Literal["producer", "flag", "guess"]
"""How the feature axis is known: from the layers around the call, from `--feature-axis`, or not at all."""

NO_ROWS = "called, but never with any rows: no sample reached it"
"""Why a site is skipped whose pre-activations were all empty."""

_MOST_NEAR = 5


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a functional call is written in the user's code; `column` and `end_column` count characters from 1."""

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """One activation call of the forward pass.

    `module` is the path of the activation module, or of the module whose forward made a functional call. `call`
    counts from 1 among the `calls` of the same module (or same function in the same module) in one forward.
    `shape` is the pre-activation's, with "N" for the samples and "*" for a size that varied. `feature_axis` holds the
    units; None if the whole tensor is one unit. `alias` is the id that earlier versions gave to a functional call, if
    it differs.
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
        """Whether the feature axis is a guess: then no limit applies to the site."""
        return self.feature_axis_by == "guess"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted at one site, with one entry per unit; `SiteStats` are computed from it. Two of them add.

    `rows` is the number of slices along the first dimension: `samples`, unless the site flattens time into the batch.
    `positions` is per unit. `maxima` and `minima` hold the largest and the smallest finite pre-activation, or None if
    there was none; `minima` are empty if not known. Of a unit that fires nowhere, `sloped` is whether its derivative is
    other than exactly zero at some position, and `high` whether each position is in a flat part that reaches +∞. Both
    are empty where that holds for no unit.
    """

    samples: int
    rows: int
    positions: int
    fires: tuple[int, ...]
    row_fires: tuple[int, ...]
    maxima: tuple[float | None, ...]
    output_sums: tuple[float, ...]
    nonfinite: tuple[int, ...]
    minima: tuple[float | None, ...] = ()
    sloped: tuple[bool, ...] = ()
    high: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How many units of a site are dead by a definition at the threshold `tau`."""

    tau: float
    units: int


@dataclass(frozen=True, kw_only=True)
class FeatureRanks:
    """How many dimensions the outputs of a site span, by three measures; `measure/ranks.py` has their formulas."""

    effective_rank: float
    stable_rank: float
    values_for_99: int


@dataclass(frozen=True, kw_only=True)
class SiteStats:
    """What was measured at one site; `sample_rate` is the share of samples (or rows, see `rate_per`) that fired.

    The counts can be recovered exactly from the rates, `rows` and `positions`: this is how reports are merged. Unless
    `stats` is "full", maxima, minima and means are None. With "fired", the rates of units that fired are None too, and
    `samples` counts only those until each unit of the site had fired.

    A saturated unit is not dead, but its derivative is within `saturated_below` of zero at every position; of the
    `saturated_units`, those in `saturated_high_units` are stuck at the high side of their activation. Reports of
    earlier versions have no minima: `min_preactivation` is empty.

    `definition_units` are the units that another definition of "dead" counts, and `definition_ladder` how many it
    counts at each of several thresholds; None and empty if the report was not judged by one. `ranks` are None unless
    they were asked for and could be computed. `weight_in` and `weight_out` are the mean |w| of the weights that make
    each unit and of those that read it; empty unless they were asked for and the layers are known.

    `gradient_rms`, `zero_gradient_units` and `gradient_score` are those of a scan with a loss, of which
    `judge.gradients.with_gradients` has the formulas; otherwise they are empty. With `stats` "full", `causes` has an
    entry for each dead unit. `born_dead_units` are the dead units that were dead in the initial model already; None if
    none was given, or it lacks the site. Of the dead units, no input in the range of the data wakes `proved_units`, and
    one was found for `woken_units`; None if that was not asked for, or nothing can be proved of the site.
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
    saturated_units: tuple[int, ...] = ()
    saturated_high_units: tuple[int, ...] = ()
    min_preactivation: tuple[float | None, ...] = ()
    definition_units: tuple[int, ...] | None = None
    definition_ladder: tuple[Rung, ...] = ()
    ranks: FeatureRanks | None = None
    weight_in: tuple[float, ...] = ()
    weight_out: tuple[float, ...] = ()
    gradient_rms: tuple[float | None, ...] = ()
    zero_gradient_units: tuple[int, ...] = ()
    gradient_score: tuple[float | None, ...] = ()
    causes: tuple[UnitCause, ...] = ()
    born_dead_units: tuple[int, ...] | None = None
    proved_units: tuple[int, ...] | None = None
    woken_units: tuple[int, ...] | None = None

    @property
    def judged_units(self) -> tuple[int, ...]:
        """The units that limits on dead units count: those of the definition, if there is one."""
        return self.dead_units if self.definition_units is None else self.definition_units

    @property
    def judged(self) -> int:
        """The number of these units."""
        return len(self.judged_units)

    @property
    def judged_fraction(self) -> float:
        """Their share, in 0..1."""
        return self.judged / self.site.units

    @property
    def knows_rates(self) -> bool:
        """Whether firings were counted; otherwise no unit is called rare or always on."""
        return None not in self.firing_rate

    @property
    def dead(self) -> int:
        """The number of dead units."""
        return len(self.dead_units)

    @property
    def saturated(self) -> int:
        """The number of saturated units."""
        return len(self.saturated_units)

    @property
    def saturated_low_units(self) -> tuple[int, ...]:
        """The saturated units that are stuck at the low side, as far as maxima are known."""
        known = ((unit, self.max_preactivation[unit]) for unit in self.saturated_units)
        return tuple(unit for unit, top in known if top is not None and top <= 0)

    @property
    def leaking_units(self) -> tuple[int, ...]:
        """The units of a leaky ReLU or PReLU that only ever leak: no pre-activation was above zero.

        Where maxima were not measured, these are its saturated units.
        """
        if self.site.op not in LEAKY:
            return ()
        apart, flat = {*self.dead_units, *self.nonfinite_units}, set(self.saturated_units)
        known = ((unit, top) for unit, top in enumerate(self.max_preactivation) if unit not in apart)
        return tuple(unit for unit, top in known if (unit in flat if top is None else top <= 0))

    @property
    def stuck_units(self) -> tuple[int, ...]:
        """The units that are saturated or only ever leak: they get less gradient than others, but some."""
        return tuple(sorted({*self.saturated_units, *self.leaking_units}))

    @property
    def saturated_fraction(self) -> float:
        """The share of saturated units, in 0..1."""
        return self.saturated / self.site.units

    @property
    def dead_fraction(self) -> float:
        """The share of dead units, in 0..1."""
        return self.dead / self.site.units

    @property
    def headroom(self) -> float | None:
        """How near a dead unit came to firing: the largest pre-activation of any of them."""
        seen = (self.max_preactivation[unit] for unit in self.dead_units)
        return max((value for value in seen if value is not None), default=None)

    def __repr__(self) -> str:
        """One line, without the figures of each unit."""
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
        """Return a site, or several. Raises `KeyError` with similar ids, and `IndexError`."""
        if isinstance(key, str):
            for stats in self:
                if stats.site.id == key:
                    return stats
            raise KeyError(_missing(key, [stats.site.id for stats in self]))
        if isinstance(key, slice):
            return Sites(super().__getitem__(key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        """Whether there is a site with this id; for anything but a string, whether the item itself is there."""
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
        """Whether the data did not reach the site; other data, or the data of another rank, may."""
        return self.reason == NO_ROWS or self.reason.startswith("never called")


def _missing(key: str, ids: Iterable[str]) -> str:
    """The message for an id that no site has: similar ids, or the ids that exist."""
    known = list(ids)
    if not known:
        return f"no site {key!r}: the report has none"
    near = [name for name in known if name.partition("#")[0] == key.partition("#")[0]]
    near = near or get_close_matches(key, known, n=_MOST_NEAR) or [n for n in known if key.lower() in n.lower()]
    shown = ", ".join(map(repr, (near or known)[:_MOST_NEAR]))
    return f"no site {key!r}; {'did you mean' if near else 'there are'} {shown}{'?' if near else ''}"
