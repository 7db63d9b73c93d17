"""The outcome of a watched run in words, and its course site by site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from deadrelu.render.conclusion import Mood
from deadrelu.report.run import Event, WatchedRun
from deadrelu.text.wording import count, percent

LONG = 500
"""A unit that was silent for so many samples is mentioned, also if it never fired and so was not seen to die."""


def dead_shares(run: WatchedRun) -> dict[str, list[float | None]]:
    """Return the share of dead units of each site in each window, None where it did not run; in order of first runs."""
    courses: dict[str, list[float | None]] = {}
    for place, window in enumerate(run.windows):
        for site in window.sites:
            courses.setdefault(site.id, [None] * len(run.windows))[place] = site.dead / site.units
    return courses


def thinned(values: Sequence[float | None], most: int) -> list[float | None]:
    """Return at most so many values, each the largest of those that it stands for."""
    parts = min(most, len(values))
    out: list[float | None] = []
    for part in range(parts):
        seen = values[part * len(values) // parts : (part + 1) * len(values) // parts]
        out.append(max((value for value in seen if value is not None), default=None))
    return out


def run_headline(run: WatchedRun) -> str:
    """Return the outcome in capitals."""
    if run_mood(run) == "bad":
        return "SICK"
    return "UNITS DIED" if _still_dead(run) else "SILENT UNITS" if _long_silent(run) else "NO DEATHS"


def run_mood(run: WatchedRun) -> Mood:
    """Return how bad it is: a site wholly dead, a non-finite value or an exploded gradient; units that are dead."""
    left = {event.kind for event in run.events} & {"non-finite", "gradient exploded"}
    if left or any(site.dead == site.units for site in run.windows[-1].sites):
        return "bad"
    return "doubtful" if _still_dead(run) or _long_silent(run) else "good"


def run_sentences(run: WatchedRun) -> Iterator[str]:
    """Yield what happened, and how the last window stands."""
    last = run.windows[-1]
    of = "training sample" if last.counted == "training" else "sample"
    yield (
        f"{last.dead:,} of {count(last.units, 'unit')} ({percent(last.dead / (last.units or 1))}) fired on none of the"
        f" {count(last.samples, of)} counted at step {last.step:,}."
    )
    died, back = (sum(event.kind == kind for event in run.events) for kind in ("died", "revived"))
    if died:
        came = f", and {back:,} came back" if back else ""
        yield f"{count(died, 'death')} of units {'was' if died == 1 else 'were'} seen{came}."
    else:
        yield f"No unit was seen to die in {count(len(run.windows), 'window')}."
    if silent := _long_silent(run):
        yield f"{count(silent, 'unit')} fired on none of the latest {LONG} samples or more."


@dataclass(frozen=True)
class Told:
    """One line about a run: what happened to a site, to the gradient, or to units of a site at one step."""

    step: int
    text: str
    is_good: bool
    is_large: bool


def told(run: WatchedRun, most: int) -> tuple[list[Told], int]:
    """Return the latest lines, at most so many, and how many more there are; what is large goes before units."""
    same = groupby(sorted(run.events, key=_order), key=_order)
    lines = [_told(list(events)) for _, events in same]
    large = [line for line in lines if line.is_large][-most:]
    small = [line for line in lines if not line.is_large]
    kept = [*large, *small[len(small) - min(len(small), most - len(large)) :]]
    return sorted(kept, key=lambda line: line.step), len(lines) - len(kept)


def _order(event: Event) -> tuple[int, str, str]:
    return event.step, event.site or "", event.kind


def _told(events: Sequence[Event]) -> Told:
    """A line for events of one kind at one site and step."""
    first = events[0]
    text = f"{first}" if len(events) == 1 else first.told_of(f"{count(len(events), 'unit')} of {first.site}")
    return Told(first.step, text, "revived" in first.kind, first.unit is None)


def _still_dead(run: WatchedRun) -> set[tuple[str | None, int | None]]:
    """The units that died and did not come back."""
    dead: set[tuple[str | None, int | None]] = set()
    for event in run.events:
        if event.kind == "died":
            dead.add((event.site, event.unit))
        elif event.kind == "revived":
            dead.discard((event.site, event.unit))
    return dead


def _long_silent(run: WatchedRun) -> int:
    """How many units were silent for long at the end."""
    return sum(silent >= LONG for site in run.windows[-1].sites for silent in site.silent_for)
