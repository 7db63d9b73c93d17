"""A training run as it was watched: a window of counts now and then, with what happened; a line of JSON each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from deadrelu.errors import FileError
from deadrelu.text.wording import printable

EventKind = Literal[
    "died", "revived", "site died", "site revived", "non-finite", "gradient vanished", "gradient exploded"
]
RUN_VERSION = 1
Counted = Literal["training", "probe"]
"""Whether a window counts the batches that the model was trained on, or batches of its own."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened to a unit, a site or the gradient at a step.

    A unit dies at the step of the first window in which it was silent, and is reported once its silence cannot be luck:
    that may be some windows later. `update` is the change of its weights in the step before, as a share of their norm;
    None where that was not measured.
    """

    kind: EventKind
    step: int
    site: str | None = None
    unit: int | None = None
    update: float | None = None

    def __str__(self) -> str:
        after = f", after a step of {self.update:.2g} of its weights" if self.update is not None else ""
        who = f"unit {self.unit} of {self.site}" if self.unit is not None else f"site {self.site}"
        return f"{self.told_of(who)}{after}"

    def told_of(self, who: str) -> str:
        """Return what happened, in words; `who` names the unit, the units or the site."""
        if self.site is None:
            return f"the {self.kind} at step {self.step:,}"
        return f"{who} {_TOLD[self.kind]} at step {self.step:,}"


_TOLD: Mapping[EventKind, str] = {
    "died": "died",
    "revived": "came back",
    "site died": "was wholly dead",
    "site revived": "came back",
    "non-finite": "met NaN or infinity",
}
"""What happened to a unit or a site, in words."""


@dataclass(frozen=True, kw_only=True)
class SiteWindow:
    """One site in one window.

    `dead`, `rare` and `saturated` count units as a scan of the same batches does; `firing_rate` (0..1) is the mean of
    its units. `silent_for` has, for each unit, for how many samples (tokens, where each is a row) it has been dead in
    every window. With an optimizer, `update` is the size of its layer's last step as a share of its weights, and
    `zero_gradient` counts the units whose weights got no gradient in it.
    """

    id: str
    units: int
    dead: int
    rare: int
    saturated: int
    firing_rate: float
    silent_for: tuple[int, ...]
    nonfinite: int = 0
    update: float | None = None
    zero_gradient: int | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """What was counted before optimizer step `step` was over: the figures by site, and the events that they show."""

    step: int
    samples: int
    counted: Counted
    sites: tuple[SiteWindow, ...]
    events: tuple[Event, ...] = ()
    gradient_norm: float | None = None

    @property
    def units(self) -> int:
        """How many units all sites have."""
        return sum(site.units for site in self.sites)

    @property
    def dead(self) -> int:
        """How many of them are dead."""
        return sum(site.dead for site in self.sites)

    def without_units(self) -> Window:
        """The window without what it says of each unit, which takes the room."""
        return replace(self, sites=tuple(replace(site, silent_for=()) for site in self.sites))

    def to_dict(self) -> dict[str, Any]:
        """Return the window as JSON types, without what is not known."""
        return {
            **_members(self),
            "sites": [_members(site) for site in self.sites],
            "events": [_members(event) for event in self.events],
        }

    def to_line(self) -> str:
        """Return the window as a line of JSON, without its end."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


@dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """The windows of one run, in order."""

    windows: tuple[Window, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """All that happened, in the order in which it was noticed."""
        return tuple(event for window in self.windows for event in window.events)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON types."""
        return {"deadrelu_run": RUN_VERSION, "windows": [window.to_dict() for window in self.windows]}


def read_line(line: str) -> Window:
    """Read back what `to_line` returned. Raises `FileError`."""
    try:
        data = json.loads(line)
        sites = tuple(
            SiteWindow(**{**_known(SiteWindow, site), "silent_for": tuple(site["silent_for"])})
            for site in data["sites"]
        )
        events = tuple(Event(**_known(Event, event)) for event in data.get("events", ()))
        return Window(**{**_known(Window, data), "sites": sites, "events": events})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(
            f"{printable(line[:60])!r} is not a line of a watched run",
            hint="give the file that deadrelu.watch(model, log=…) has written",
        ) from error


def read_run(text: str) -> WatchedRun:
    """Read a whole file; a last line that is cut off is left out. Raises `FileError`, also where there is no window."""
    whole, _, cut = text.rpartition("\n")
    lines = [line for line in whole.splitlines() if line.strip()]
    windows = [read_line(line) for line in lines]
    if cut.strip():
        try:
            windows.append(read_line(cut))
        except FileError:
            if not windows and not cut.lstrip().startswith("{"):
                raise
    if not windows:
        raise FileError("the run has no window yet", hint="a line is written at the first step that is counted")
    return joined(windows)


def joined(windows: Iterable[Window]) -> WatchedRun:
    """Return the run of these windows; where it went back to a checkpoint, what came after that is forgotten."""
    kept: list[Window] = []
    for window in windows:
        while kept and kept[-1].step >= window.step:
            kept.pop()
        kept.append(window)
    return WatchedRun(windows=tuple(kept))


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an object that the class has: a later version may write more."""
    return {field.name: data[field.name] for field in fields(kind) if field.name in data}


def _members(of: Window | SiteWindow | Event) -> dict[str, Any]:
    """The members of an object that are known, and finite."""

    def is_known(value: object) -> bool:
        return value is not None and not (isinstance(value, float) and not math.isfinite(value))

    return {name: value for name, value in vars(of).items() if is_known(value)}
