"""The live table of a trial on stderr: how far each arm is, and how long the rest will take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deadrelu.training.trial.rounds import Standing, View

_EVERY = 0.2
"""Seconds between two drawings."""


@contextmanager
def live_view(*, quiet: bool) -> Iterator[View | None]:
    """A function that draws the standing of a trial; None unless stderr is a terminal, or if `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    drawn = 0.0
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:

        def view(standing: Standing) -> None:
            nonlocal drawn
            if time.monotonic() - drawn >= _EVERY:
                drawn = time.monotonic()
                live.update(table_of(standing), refresh=True)

        yield view


def table_of(standing: Standing) -> Any:
    """The standing as a table: an arm a row, with the seeds done, the metric so far and a bar."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    shares = {place: _done(standing, place) for place in range(len(standing.arms))}
    table = Table(box=None, pad_edge=False, caption=_left(standing, sum(shares.values())), caption_justify="left")
    table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=34)
    table.add_column("", width=20)
    table.add_column("seeds", justify="right")
    table.add_column("so far", justify="right")
    for place, arm in enumerate(standing.arms):
        ended = [outcome for job, outcome in standing.outcomes.items() if job.place == place]
        metrics = [outcome.run.metric for outcome in ended if outcome.run.metric is not None]
        metrics += [p.metric for job, p in standing.points.items() if job.place == place and p.metric is not None]
        table.add_row(
            arm.name,
            ProgressBar(total=standing.seeds, completed=shares[place], width=20),
            f"{len(ended)}/{standing.seeds}",
            f"{statistics.fmean(metrics):.4f}" if metrics else "–",
        )
    return table


def _done(standing: Standing, place: int) -> float:
    """How many seeds of an arm are done, with the parts of those that run."""
    ended = sum(job.place == place for job in standing.outcomes)
    running = [point.step for job, point in standing.points.items() if job.place == place]
    return ended + sum(step / max(1, standing.steps) for step in running)


def _left(standing: Standing, done: float) -> str:
    """How long it has taken, and how long the rest will take at this pace."""
    spent = time.monotonic() - standing.begun
    fresh = done - standing.resumed
    rest = len(standing.arms) * standing.seeds - done
    left = f", about {_clock(spent * rest / fresh)} left" if fresh > 0.1 and rest > 0 else ""
    return f"{_clock(spent)} gone{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
