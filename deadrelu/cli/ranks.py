"""The command as one of several processes under torchrun: which rank prints, and how a failure ends the run."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from deadrelu.cli import process
from deadrelu.errors import DeadreluError, ExitCode, UsageError

if TYPE_CHECKING:
    from deadrelu.measure.distributed import Ranks

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
_FAILED = "deadrelu/failed"
_POLL_S = 0.2
"""Seconds between checks whether another rank has failed."""

_current: RankGroup | None = None


def launched() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, has started this process with others."""
    size = os.environ.get("WORLD_SIZE", "")
    return all(os.environ.get(name) for name in _ENVIRONMENT) and size.isdecimal() and int(size) > 1


def current() -> RankGroup | None:
    """The other processes and this one, or None where it is alone."""
    return _current


def is_silent() -> bool:
    """Whether another process, rank 0, prints and writes what all have measured."""
    return _current is not None and _current.rank > 0


class RankGroup:
    """The ranks of this run. The first that fails prints why, and ends the run for all."""

    def __init__(self) -> None:
        """Connect to the others; from here on only rank 0 prints. Raises `DeadreluError` if they cannot be reached."""
        self.rank = int(os.environ["RANK"])
        self._stderr = os.dup(2)
        if self.rank and not os.environ.get("DEADRELU_DEBUG"):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        self._timeout = _seconds()
        self._printing = threading.Lock()
        self._has_failed = False
        self._code: int | None = None
        with process.importing():
            import torch.distributed as dist
        self.device, backend = _device()
        self._store = self._meet(dist, backend)
        self._watch(self._connect(dist))

    def _connect(self, dist: Any) -> Any:
        """A new connection to the store that the launcher, or rank 0, keeps."""
        size = int(os.environ["WORLD_SIZE"])
        return next(dist.rendezvous("env://", self.rank, size, timeout=timedelta(seconds=self._timeout)))[0]

    def _meet(self, dist: Any, backend: str) -> Any:
        timeout = timedelta(seconds=self._timeout)
        try:
            store = self._connect(dist)
        except Exception as error:
            if self.rank == 1:  # rank 0, which may keep the store, cannot print it
                self._print(_alone(error))
            raise _alone(error) from error
        try:
            with _stdout_on_stderr():  # gloo prints a greeting
                dist.init_process_group(
                    backend, store=self._connect(dist), rank=self.rank, world_size=_size(), timeout=timeout
                )
        except Exception as error:
            raise _alone(error) from error
        return store

    def device_for(self, wanted: str) -> str:
        """The requested device; of several GPUs the one of this rank."""
        return self.device if self.device and wanted in ("auto", "cuda") else wanted

    def ranks(self) -> Ranks:
        """The processes as the measurement needs them; all start from the same RNG state."""
        import random

        import numpy as np
        import torch

        from deadrelu.measure.distributed import Ranks

        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        return Ranks()

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error of one rank ends the run for all: it raises `SystemExit`, which no command catches."""
        try:
            yield
        except DeadreluError as error:
            self.print_error(error)
            raise SystemExit(int(error.exit_code)) from error

    def print_error(self, error: DeadreluError) -> None:
        """Print the error, unless another rank has printed one: the run ends with one line."""
        with self._printing:
            if self._claims(int(error.exit_code)):
                self._print(error)

    def finish(self, code: int) -> int:
        """The exit code of this process: that of the first rank that failed; otherwise `code` in rank 0, 0 in others.

        `cli.torchrun` makes one of them. From here on the launcher may end this process, and that is not an error.
        """
        with suppress(RuntimeError):  # the store is gone where rank 0 kept it and has left
            if self._store.check([_FAILED]):
                return _code_in(self._store.get(_FAILED))
        self._code = 0 if self.rank else code
        return self._code

    def _claims(self, code: int) -> bool:
        """Whether this rank is the first to fail, and this is its first failure."""
        if self._has_failed:
            return False
        self._has_failed = True
        claim = f"{self.rank}:{code}"
        with suppress(RuntimeError):
            return bool(self._store.compare_set(_FAILED, "", claim) == claim.encode())
        return self.rank <= 1  # the store is gone: rank 0 kept it, or its launcher did

    def _print(self, error: DeadreluError) -> None:
        line = f"error: {error.message}{f'; {error.hint}' if error.hint else ''}\n"
        os.write(self._stderr, line.encode(errors="backslashreplace"))

    def _watch(self, store: Any) -> None:
        """From now on, end this process when another rank fails, or when the launcher ends it because one died."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def watch() -> None:
            while True:
                ready, _, _ = select.select([reader], [], [], _POLL_S)
                is_ended = bool(ready) and signal.SIGTERM in os.read(reader, 64)
                if is_ended and self._code is not None:
                    os._exit(self._code)
                with suppress(RuntimeError):
                    if is_ended or store.check([_FAILED]):
                        self._end(is_ended)
                        os._exit(_code_in(store.get(_FAILED)))
                if is_ended:
                    os._exit(int(ExitCode.COULD_NOT_RUN))

        threading.Thread(target=watch, daemon=True, name="deadrelu-ranks").start()

    def _end(self, is_ended: bool) -> None:
        """Print why, if no rank has: one that was killed cannot."""
        with self._printing:
            if is_ended and self._claims(int(ExitCode.COULD_NOT_RUN)):
                self._print(
                    DeadreluError(
                        "the run was ended: another rank died, or the launcher was stopped",
                        hint="the launcher's own report names the rank; it may have run out of memory",
                    )
                )


def run(command: Callable[[Callable[[DeadreluError], None]], int]) -> int:
    """Run `command`, which is given the function that prints an error, as one of the ranks; returns its exit code."""
    global _current
    from deadrelu.cli import console

    try:
        _current = RankGroup()
    except DeadreluError as error:
        console.print_error(error)  # only rank 0 has a stderr
        return int(error.exit_code)
    try:
        code = command(_current.print_error)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(ExitCode.COULD_NOT_RUN)
    return _current.finish(code)


def _size() -> int:
    return int(os.environ["WORLD_SIZE"])


def _code_in(claim: bytes) -> int:
    return int(claim.decode().rpartition(":")[2])


def _seconds() -> float:
    """How long to wait for a rank: `DEADRELU_RANK_TIMEOUT`, or half an hour."""
    text = os.environ.get("DEADRELU_RANK_TIMEOUT") or "1800"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise UsageError(f"DEADRELU_RANK_TIMEOUT is {text!r}", hint="write a number of seconds, such as 1800")
    return seconds


def _device() -> tuple[str | None, str]:
    """The GPU of this rank, or None, and the backend of the process group.

    Ranks that have to share a GPU use gloo: nccl refuses them.
    """
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        return None, "gloo"
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    each = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) <= gpus
    torch.cuda.set_device(local % gpus)
    return f"cuda:{local % gpus}", "nccl" if each else "gloo"


def _alone(error: Exception) -> DeadreluError:
    return DeadreluError(
        f"the ranks cannot reach each other: {type(error).__name__}: {error}",
        hint="start all of them with torchrun; DEADRELU_RANK_TIMEOUT is how many seconds to wait",
    )


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Send what a library prints to stderr, away from the report."""
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
