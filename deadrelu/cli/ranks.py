"""The command as one of several processes under torchrun: who speaks, what ends the run, and its one exit code."""

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
_LOOK = 0.2
"""Seconds between two looks at whether another rank has failed."""

_joined: Joined | None = None


def launched() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, has started this process with others."""
    size = os.environ.get("WORLD_SIZE", "")
    return all(os.environ.get(name) for name in _ENVIRONMENT) and size.isdecimal() and int(size) > 1


def joined() -> Joined | None:
    """The other processes and this one, or None where it is alone."""
    return _joined


class Joined:
    """This process's place among the others. The first rank that fails says why, and ends the run for all."""

    def __init__(self) -> None:
        """Meet the others; from here on only rank 0 is heard. Raises `DeadreluError` where they do not come."""
        self.rank = int(os.environ["RANK"])
        self._stderr = os.dup(2)
        if self.rank and not os.environ.get("DEADRELU_DEBUG"):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        self._timeout = _seconds()
        self._speaking = threading.Lock()
        self._has_failed = False
        self._code: int | None = None
        with process.importing():
            import torch.distributed as dist
        self.device, backend = _device()
        self._store = self._meet(dist, backend)
        self._watch(self._connect(dist))

    def _connect(self, dist: Any) -> Any:
        """A connection of its own to the store that the launcher, or rank 0, keeps."""
        size = int(os.environ["WORLD_SIZE"])
        return next(dist.rendezvous("env://", self.rank, size, timeout=timedelta(seconds=self._timeout)))[0]

    def _meet(self, dist: Any, backend: str) -> Any:
        timeout = timedelta(seconds=self._timeout)
        try:
            store = self._connect(dist)
        except Exception as error:
            if self.rank == 1:  # rank 0, which may keep the store, is not there to say so
                self._print(_alone(error))
            raise _alone(error) from error
        try:
            with _stdout_on_stderr():  # gloo says hello
                dist.init_process_group(
                    backend, store=self._connect(dist), rank=self.rank, world_size=_size(), timeout=timeout
                )
        except Exception as error:
            raise _alone(error) from error
        return store

    def device_for(self, wanted: str) -> str:
        """The device that was asked for; of several GPUs the one of this rank."""
        return self.device if self.device and wanted in ("auto", "cuda") else wanted

    def ranks(self) -> Ranks:
        """The processes as the measurement needs them; all begin with the same random numbers."""
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
        """An error of one rank is the end for all: it leaves by `SystemExit`, which no command takes for its own."""
        try:
            yield
        except DeadreluError as error:
            self.say_error(error)
            raise SystemExit(int(error.exit_code)) from error

    def say_error(self, error: DeadreluError) -> None:
        """Print the error, unless another rank has printed one: the run ends with one line."""
        with self._speaking:
            if self._claims(int(error.exit_code)):
                self._print(error)

    def finish(self, code: int) -> int:
        """The exit code of this process: that of the first rank that failed, otherwise `code`, 0 except in rank 0.

        `cli.torchrun` makes one of them. From here on the launcher may end this process, and that is not an error.
        """
        with suppress(RuntimeError):  # the store is gone where rank 0 kept it and has left
            if self._store.check([_FAILED]):
                return _code_in(self._store.get(_FAILED))
        self._code = code
        return code

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

        def look() -> None:
            while True:
                ready, _, _ = select.select([reader], [], [], _LOOK)
                told = bool(ready) and signal.SIGTERM in os.read(reader, 64)
                if told and self._code is not None:
                    os._exit(self._code)
                with suppress(RuntimeError):
                    if told or store.check([_FAILED]):
                        self._end(told)
                        os._exit(_code_in(store.get(_FAILED)))
                if told:
                    os._exit(int(ExitCode.COULD_NOT_RUN))

        threading.Thread(target=look, daemon=True, name="deadrelu-ranks").start()

    def _end(self, told: bool) -> None:
        """Say why, where nobody has: a rank that was killed cannot."""
        with self._speaking:
            if told and self._claims(int(ExitCode.COULD_NOT_RUN)):
                self._print(
                    DeadreluError(
                        "the run was ended: another rank died, or the launcher was told to stop",
                        hint="the launcher's own report names the rank; it may have run out of memory",
                    )
                )


def run(command: Callable[[Callable[[DeadreluError], None]], int]) -> int:
    """Run `command`, which gets the function that says an error, as one of the ranks; the exit code is that of all."""
    global _joined
    from deadrelu.cli import console

    try:
        _joined = Joined()
    except DeadreluError as error:
        console.say_error(error)  # rank 0 alone is heard
        return int(error.exit_code)
    try:
        code = command(_joined.say_error)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(ExitCode.COULD_NOT_RUN)
    return _joined.finish(code)


def _size() -> int:
    return int(os.environ["WORLD_SIZE"])


def _code_in(claim: bytes) -> int:
    return int(claim.decode().rpartition(":")[2])


def _seconds() -> float:
    """How long to wait for a rank; `DEADRELU_RANK_TIMEOUT` says otherwise than half an hour."""
    text = os.environ.get("DEADRELU_RANK_TIMEOUT") or "1800"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise UsageError(f"DEADRELU_RANK_TIMEOUT is {text!r}", hint="write a number of seconds, such as 1800")
    return seconds


def _device() -> tuple[str | None, str]:
    """The GPU of this rank, None where there is none, and the way in which the ranks talk.

    Ranks that have to share a GPU talk by way of main memory: nccl refuses them.
    """
    import torch

    there = torch.cuda.device_count()
    if not there:
        return None, "gloo"
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    each = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) <= there
    torch.cuda.set_device(local % there)
    return f"cuda:{local % there}", "nccl" if each else "gloo"


def _alone(error: Exception) -> DeadreluError:
    return DeadreluError(
        f"the ranks do not find each other: {type(error).__name__}: {error}",
        hint="start all of them with torchrun; DEADRELU_RANK_TIMEOUT says how many seconds to wait",
    )


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """What a library prints goes to stderr, where it does no harm to a report."""
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
