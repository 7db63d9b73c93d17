"""`deadrelu watch`: a run in the terminal while it is written."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli.command import command
from deadrelu.cli.saved_runs import FollowedRun
from deadrelu.errors import FileError
from deadrelu.render.terminal import run as rendering
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.run import WatchedRun

_EVERY = 0.25
"""Seconds between two looks at the file and at the size of the screen."""

_LINES = 14
"""Lines of the view beside its sites and events."""


@command()
def watch(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN.jsonl", help="The log of deadrelu.watch; it may be to come."),
    ],
    once: Annotated[bool, typer.Option("--once", help="Print how it stands, and end.")] = False,
) -> None:
    """Show RUN.jsonl, which deadrelu.watch writes while a model trains, and follow it.

    Ctrl-C ends the view; the run goes on. Where stdout is not a terminal, it is printed once.
    """
    followed = FollowedRun(run)
    found = followed.read()
    if once or not sys.stdout.isatty():
        if found is None:
            raise FileError(f"there is no run in {run}", hint="write one by deadrelu.watch(model, log='run.jsonl')")
        console.write(rendering.render(found, console.current_screen()))
        return
    if not run.parent.is_dir():
        raise FileError(f"there is no folder {run.parent}", hint="give the path of the log")
    _follow(followed, run, found)


def _follow(followed: FollowedRun, path: Path, found: WatchedRun | None) -> None:
    """Draw the run whenever it or the screen changes, on a screen of its own, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    now = console.current_screen()  # inside, stdout is not the terminal's own
    drawn: tuple[object, ...] = ()
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                size = os.get_terminal_size(sys.stdout.fileno())
                state = (None if found is None else found.windows[-1].step, size)
                if state != drawn:
                    drawn = state
                    live.update(Text.from_ansi(_drawn(found, path, size, now)), refresh=True)
                time.sleep(_EVERY)
                found = followed.read()
        except KeyboardInterrupt:
            pass
    if found is not None:
        console.write(rendering.render(found, now))


def _drawn(run: WatchedRun | None, path: Path, size: os.terminal_size, now: Screen) -> str:
    """The run as it fits the screen, whose size may have changed."""
    if run is None:
        return f"waiting for {now.text(str(path))} (Ctrl-C ends this)"
    screen = Screen(width=size.columns, color=now.color, unicode=now.unicode)
    sites = len(run.windows[-1].sites)
    return rendering.render(run, screen, events=max(3, size.lines - sites - _LINES))
