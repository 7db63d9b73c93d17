"""Torch's own readers of files: one thread at a time, without their warnings, and with nothing on stdout."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from deadrelu.programs.process_state import stdout_on_stderr

_reading = threading.RLock()
"""`torch.export.load` fails where another thread is in it, and the filters of warnings are those of all threads."""


@contextmanager
def quiet() -> Iterator[None]:
    """While torch reads a file."""
    with _reading, warnings.catch_warnings(), stdout_on_stderr():
        warnings.simplefilter("ignore")
        yield
