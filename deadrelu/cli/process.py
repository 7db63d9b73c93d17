"""The command's own process: torch imported and left quickly, and memory that stays with it. Never a user's process."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_owned = False


def own() -> None:
    """Say that this process belongs to the command. Without this, nothing here has an effect but the exit."""
    global _owned
    _owned = "pytest" not in sys.modules


@contextmanager
def importing() -> Iterator[None]:
    """For the import of torch, before it: the allocator is tuned, and no garbage is looked for among what stays."""
    if not _owned:
        yield
        return
    if "torch" not in sys.modules:
        keep_memory()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what was imported lives as long as the process: no collection needs to look at it
        gc.enable()


def keep_memory() -> bool:
    """Let glibc keep the memory of one activation for the next, and say whether it does so.

    By default it gives every large block back to the system and has it zeroed anew, page by page. Peak memory may grow
    by some per cent. `DEADRELU_MALLOC=0` leaves the allocator alone, and so does any other C library.
    """
    if os.environ.get("DEADRELU_MALLOC") == "0" or not sys.platform.startswith("linux"):
        return False
    import ctypes

    with suppress(OSError, AttributeError):  # another C library has other functions
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - an attribute that is missing raises
        # In this order: any threshold that is set ends glibc's own adjustment of the other.
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return False


def leave(code: int) -> NoReturn:
    """Exit with `code`, all output flushed and all exit functions run, but without taking torch apart first.

    `DEADRELU_EXIT=python` exits in the ordinary way, and so does a process that is traced, that still runs a thread of
    the user's, or that is not the command's own.
    """
    if not _owned or os.environ.get("DEADRELU_EXIT") == "python" or sys.gettrace() or _threads():
        sys.exit(code)
    import atexit

    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        sys.exit(code)  # Python says what it says of a stream that cannot be flushed
    os._exit(code)


def _threads() -> bool:
    """Whether a thread runs that Python would wait for."""
    import threading

    return any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate())
