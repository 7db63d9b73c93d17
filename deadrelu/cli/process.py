"""The command's own process: imports torch and exits quickly, and keeps freed memory. Never for a user's process."""

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
    """Mark this process as the command's. Without this, nothing here has an effect but the exit."""
    global _owned
    _owned = "pytest" not in sys.modules


@contextmanager
def importing() -> Iterator[None]:
    """Tune the allocator, and import torch without garbage collection."""
    if not _owned:
        yield
        return
    if "torch" not in sys.modules:
        keep_memory()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # imported modules live as long as the process: the collector need not visit them
        gc.enable()


def keep_memory() -> bool:
    """Let glibc keep the memory of one activation for the next; returns whether it does.

    By default it returns every large block to the system, which zeroes it again page by page. Peak memory may grow by a
    few per cent. `DEADRELU_MALLOC=0` leaves the allocator alone, and so does any other C library.
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
    """Flush all output, run all exit functions, and exit with `code` without tearing torch down.

    The exit is Python's own with `DEADRELU_EXIT=python`, and in a process that is traced, still runs a thread of the
    user's, or is not the command's.
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
        sys.exit(code)  # Python reports a stream that cannot be flushed
    os._exit(code)


def _threads() -> bool:
    """Whether a thread runs that Python would wait for."""
    import threading

    return any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate())
