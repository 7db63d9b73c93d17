"""When units of a model in training die and come back: from counts now and then to events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deadrelu.errors import UsageError
from deadrelu.report.run import Event

SURE = 1e-6
"""A unit has died once its silence would be luck with less than this probability."""

DRIFT = 0.5
"""The share of its firing rate that a unit is taken to have kept: rates move while a model trains."""

SUDDEN, MANY = 0.2, 1000
"""From this firing rate to silence is a jump; below it a unit may fade, and has died after so many silent samples."""

MEMORY = 0.8
"""The weight of what was known of a unit's firing rate before the latest window in which it fired."""

_Whole = NDArray[np.int64]
_Real = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SiteFires:
    """What one window counted at a site, by unit: at how many of the `rows` it fired, and where it met NaN.

    `sloped`: the derivative of a unit that fires nowhere is other than exactly zero; None where that holds for none.
    """

    id: str
    rows: int
    samples: int
    row_fires: _Whole
    nonfinite: _Whole
    sloped: _Flags | None

    @property
    def silent(self) -> _Flags:
        """The units that are dead in this window: NaN is not silence, and a saturated unit still gets gradient."""
        silent: _Flags = (self.row_fires == 0) & (self.nonfinite == 0)
        return silent if self.sloped is None else silent & ~self.sloped


_UNITS: Mapping[str, type] = {
    "silent_for": np.int64,
    "since": np.int64,
    "rate": np.float64,
    "latest": np.float64,
    "has_died": np.bool_,
}
_SITES: Mapping[str, type] = {"site_has_died": np.bool_, "is_odd": np.bool_}


class Lives:
    """The units of all sites, one site after the other in each array, so that a window is one look at all.

    `silent_for`: for how many rows each unit was silent; `since`: the step of the first window of its silence, 0 where
    it fires; `rate`: the share of the rows at which it fired before, 0 where it never did; `latest`: that of the last
    window in which it fired.
    """

    def __init__(self) -> None:
        """No site is known yet."""
        self.places: dict[str, slice] = {}
        """Where the units of each site are."""
        self.silent_for: _Whole
        self.since: _Whole
        self.rate: _Real
        self.latest: _Real
        self.has_died: _Flags
        self.site_has_died: _Flags
        self.is_odd: _Flags
        for name, kind in {**_UNITS, **_SITES}.items():
            setattr(self, name, np.zeros(0, dtype=kind))

    def dead_units(self, after: int) -> Mapping[str, list[int]]:
        """The units of each site that have died for certain, or were silent for so many rows."""
        dead = self.has_died | (self.silent_for >= after)
        return {id: np.flatnonzero(dead[place]).tolist() for id, place in self.places.items()}

    def see(self, step: int, sites: Sequence[SiteFires]) -> list[Event]:
        """Take in a window that ends with this step, and return what has happened.

        Raises `UsageError` for a site that has another number of units than before.
        """
        self._make_room(sites)
        window = _Window.of(sites, self)
        silent = window.silent
        events = self._odd_sites(step, window)
        all_silent = np.logical_and.reduceat(silent, window.starts)
        events += self._revived(step, window, silent, all_silent)
        at = window.units
        self._note_rates(window, silent)
        self.silent_for[at] = silent_for = np.where(silent, self.silent_for[at] + window.rows, 0)
        self.since[at] = since = np.where(silent, np.where(self.since[at] == 0, step, self.since[at]), 0)
        has_died = self.has_died[at] & silent
        died = silent & ~has_died
        if died.any():
            died &= self._are_sure(window, silent_for)
        self.has_died[at] = has_died | died
        for index in np.flatnonzero(died):
            site, unit = window.unit(int(index))
            events.append(Event(kind="died", step=int(since[index]), site=site, unit=unit))
        is_dead = all_silent & np.logical_or.reduceat(self.has_died[at], window.starts)
        for place in np.flatnonzero(is_dead & ~self.site_has_died[window.sites]):
            latest = int(np.maximum.reduceat(since, window.starts)[place])
            events.append(Event(kind="site died", step=latest, site=window.ids[place]))
        self.site_has_died[window.sites] = (self.site_has_died[window.sites] & all_silent) | is_dead
        return events

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered, in plain values."""
        names = (*_UNITS, *_SITES)
        units = {id: place.stop - place.start for id, place in self.places.items()}
        return {"units": units, **{name: getattr(self, name).tolist() for name in names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.places = {}
        for id, units in state["units"].items():
            self._add(id, units)
        for name, kind in {**_UNITS, **_SITES}.items():
            setattr(self, name, np.asarray(state[name], dtype=kind))

    def _make_room(self, sites: Sequence[SiteFires]) -> None:
        for site in sites:
            units = len(site.row_fires)
            known = self.places.get(site.id) or self._add(site.id, units)
            if known.stop - known.start != units:
                raise UsageError(
                    f"{site.id} had {known.stop - known.start} units and has {units}",
                    hint="start a new monitor where the model changes its size",
                )
        for name in _UNITS:
            setattr(self, name, _extended(getattr(self, name), self._size))
        for name in _SITES:
            setattr(self, name, _extended(getattr(self, name), len(self.places)))

    @property
    def _size(self) -> int:
        """How many units there are."""
        return max((place.stop for place in self.places.values()), default=0)

    def _add(self, id: str, units: int) -> slice:
        """A place for the units of a new site."""
        self.places[id] = slice(self._size, self._size + units)
        return self.places[id]

    def _odd_sites(self, step: int, window: _Window) -> list[Event]:
        """Sites that meet NaN or infinity, and did not in the window before."""
        now = window.is_odd
        new = np.flatnonzero(now & ~self.is_odd[window.sites])
        self.is_odd[window.sites] = now
        return [Event(kind="non-finite", step=step, site=window.ids[place]) for place in new]

    def _revived(self, step: int, window: _Window, silent: _Flags, all_silent: _Flags) -> list[Event]:
        """Units and sites that fire again."""
        events = []
        for index in np.flatnonzero(self.has_died[window.units] & ~silent):
            site, unit = window.unit(int(index))
            events.append(Event(kind="revived", step=step, site=site, unit=unit))
        for place in np.flatnonzero(self.site_has_died[window.sites] & ~all_silent):
            events.append(Event(kind="site revived", step=step, site=window.ids[place]))
        return events

    def _are_sure(self, window: _Window, silent_for: _Whole) -> _Flags:
        """Where the silence cannot be luck: samples are independent, the rows of one sample need not be."""
        samples = silent_for * window.samples_a_row
        rate = np.minimum(self.rate[window.units], self.latest[window.units])
        sure: _Flags = samples * np.log1p(-DRIFT * rate) < np.log(SURE)
        return sure & ((rate >= SUDDEN) | (samples >= MANY))

    def _note_rates(self, window: _Window, silent: _Flags) -> None:
        """Take in the rates of the units that fire; the rows at which they were silent before count as well."""
        at = window.units
        rate = self.rate[at]
        now = window.row_fires / np.maximum(window.rows + self.silent_for[at], 1)
        self.rate[at] = np.where(silent, rate, np.where(rate > 0, MEMORY * rate + (1 - MEMORY) * now, now))
        self.latest[at] = np.where(silent, self.latest[at], now)


@dataclass(frozen=True)
class _Window:
    """The sites of one window side by side: `units` and `sites` are where they are in the arrays of `Lives`."""

    ids: list[str]
    starts: _Whole
    row_fires: _Whole
    silent: _Flags
    is_odd: _Flags
    rows: int | _Whole
    samples_a_row: float | _Real
    units: slice | _Whole
    sites: slice | list[int]

    @classmethod
    def of(cls, sites: Sequence[SiteFires], lives: Lives) -> _Window:
        ids = [site.id for site in sites]
        sizes = [len(site.row_fires) for site in sites]
        units: slice | _Whole = slice(None)
        places: slice | list[int] = slice(None)
        if ids != list(lives.places):
            units = np.concatenate([np.arange(lives.places[id].start, lives.places[id].stop) for id in ids])
            places = [list(lives.places).index(id) for id in ids]
        first = sites[0]
        rows: int | _Whole = first.rows
        ratio: float | _Real = first.samples / max(first.rows, 1)
        if any((site.rows, site.samples) != (first.rows, first.samples) for site in sites):
            rows = np.repeat([site.rows for site in sites], sizes)
            ratio = np.repeat([site.samples / max(site.rows, 1) for site in sites], sizes)
        return cls(
            ids=ids,
            starts=np.cumsum([0, *sizes[:-1]]),
            row_fires=np.concatenate([site.row_fires for site in sites]),
            silent=np.concatenate([site.silent for site in sites]),
            is_odd=np.array([site.nonfinite.any() for site in sites]),
            rows=rows,
            samples_a_row=ratio,
            units=units,
            sites=places,
        )

    def unit(self, index: int) -> tuple[str, int]:
        """The site and the number of the unit at this place."""
        place = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.ids[place], index - int(self.starts[place])


def _extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array with zeros at its end."""
    return array if len(array) == size else np.concatenate([array, np.zeros(size - len(array), dtype=array.dtype)])
