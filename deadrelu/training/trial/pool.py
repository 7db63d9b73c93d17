"""Runs the jobs of a trial: here one after another, in a pool of processes, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deadrelu.errors import UsageError
from deadrelu.training.trial.job import Job, Outcome, Setup, run_job
from deadrelu.training.trial.store import Store

_log = logging.getLogger("deadrelu")

GLANCE = 0.25
"""Seconds between two looks at how far the runs are."""

Tick = Callable[[], None]
"""Called again and again while jobs run."""


class Runner(Protocol):
    """What runs jobs, each in any order, and yields each with its outcome."""

    def run(self, jobs: Iterable[Job], tick: Tick) -> Iterator[tuple[Job, Outcome]]:
        """Run them all. Leaving the iterator early ends those that still run."""


@dataclass(frozen=True)
class Work:
    """What a job does wherever it runs: it notes how far it is in the folder of the trial."""

    setup: Setup
    folder: Path
    keeps_models: bool = False

    def do(self, job: Job) -> Outcome:
        """Run a job."""
        store = Store(self.folder)
        keep = store.model(job) if self.keeps_models else None
        return run_job(self.setup, job, on_point=lambda point: store.note(job, point), keep=keep)


@dataclass(frozen=True)
class Here:
    """One job after another, in this process."""

    work: Work

    def run(self, jobs: Iterable[Job], tick: Tick) -> Iterator[tuple[Job, Outcome]]:
        """Run them all."""
        for job in jobs:
            tick()
            yield job, self.work.do(job)


@dataclass(frozen=True)
class Processes:
    """A pool of processes. One that dies loses its job alone, and another takes its place."""

    work: Work
    number: int

    def run(self, jobs: Iterable[Job], tick: Tick) -> Iterator[tuple[Job, Outcome]]:
        """Run them all. Raises `UsageError` where the work cannot be sent to another process."""
        from pebble import ProcessExpired, ProcessPool

        context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch may hang
        pool = ProcessPool(max_workers=self.number, context=context, initializer=_begin, initargs=(self.work,))
        try:
            waiting: dict[Future[Outcome], Job] = {pool.schedule(_do, args=(job,)): job for job in jobs}
            while waiting:
                done, _ = wait(waiting, timeout=GLANCE, return_when=FIRST_COMPLETED)
                tick()
                for future in done:
                    job = waiting.pop(future)
                    try:
                        outcome = future.result()
                    except ProcessExpired as error:
                        outcome = Outcome.failed(job.seed, _why_dead(error.exitcode), is_lost=True)
                    except (TypeError, AttributeError, ImportError) as error:
                        raise UsageError(
                            f"the trial cannot be sent to another process: {error}", hint="take jobs=1"
                        ) from error
                    yield job, outcome
        finally:
            pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it untyped
            pool.join()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_work: Work | None = None


def _begin(work: Work) -> None:
    """Set up a process of the pool. Ctrl-C reaches it too, and is the parent's to handle."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("deadrelu").setLevel(logging.ERROR)  # the parent has said it already
    _work = work


def _do(job: Job) -> Outcome:
    assert _work is not None
    return _work.do(job)


def _why_dead(code: Any) -> str:
    """Why a process died, by its exit code."""
    if isinstance(code, int) and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was killed ({name})"
    return f"its process ended with exit code {code}"
