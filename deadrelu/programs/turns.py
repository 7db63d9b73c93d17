"""Scans in one process take turns: only one at a time may set eval mode, the fused path and the RNG state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from deadrelu.errors import UsageError
from deadrelu.programs.threads import here

_changed = threading.Condition()
_turns: list[Turn] = []
"""The scans under way. Each began while no model ran in those before it, and ends before they go on.

So each restores what it found and changed in order. A scan that starts while another waits for its data does not wait
for it, since that data may depend on the new scan.
"""


class Turn:
    """The turn of one scan among those under way."""

    def __init__(self) -> None:
        """A turn of the present thread, which is now setting up."""
        self.thread = get_ident()
        self.is_running = True

    def begin(self) -> None:
        """Wait until scans that started later are over, and let no other start: the model is about to run."""
        with _changed:
            self._wait()
            self.is_running = True

    def end(self) -> None:
        """The model has run."""
        with _changed:
            self.is_running = False
            _changed.notify_all()

    @contextmanager
    def between_runs(self) -> Iterator[None]:
        """After set-up and until all is restored, let other scans start whenever the model does not run."""
        self.end()
        try:
            yield
        finally:
            self.begin()

    def leave(self) -> None:
        """End the scan after those that started later."""
        with _changed:
            self._wait()
            _turns.remove(self)
            _changed.notify_all()

    def _wait(self) -> None:
        while _turns[-1].thread != self.thread:
            _changed.wait()


@contextmanager
def turn() -> Iterator[Turn]:
    """Wait until no model runs in another scan, and begin one.

    Raises `UsageError` if the forward of a scanned model starts a scan, since that would wait forever.
    """
    mine = Turn()
    with _changed:
        if here.task is not None or any(other.is_running and other.thread == mine.thread for other in _turns):
            raise UsageError(
                "the forward of a model that is being scanned starts a scan itself",
                hint="scan one model after the other, outside of forward",
            )
        while any(other.is_running for other in _turns):
            _changed.wait()
        _turns.append(mine)
    try:
        yield mine
    finally:
        mine.leave()
