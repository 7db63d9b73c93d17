"""Follows a forward pass into other threads: those that it starts, and those of a pool to which it submits work.

Torch's modes are per thread, so each of these has to enter them itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

from torch import nn


@dataclass(eq=False)
class Task:
    """The work of one forward pass in one thread: its own, or one that it hands work to.

    `number` is that of the parent task plus a count of the tasks that it has started: () is the pass itself, (2,) the
    second task that it started. `path` is the module whose forward started it.
    """

    number: tuple[int, ...] = ()
    path: str = ""
    started: int = 0

    @property
    def name(self) -> str:
        """A name for the calls of this task: "<thread 2>", "<thread 2.1>"; "" for the pass."""
        return f"<thread {'.'.join(map(str, self.number))}>" if self.number else ""


class _Here(threading.local):
    task: Task | None = None
    inside = False
    """Whether the present call is part of an activation call that was seen, or of our own work."""


here = _Here()
"""The task of the present thread; None where it does not work for a forward pass."""

Modes = AbstractContextManager[object]
"""The modes that a thread enters before it works on a task."""


@contextmanager
def followed(path: Callable[[], str], modes: Callable[[], Modes]) -> Iterator[None]:
    """Let threads that are started by a forward pass (where `here` has a task) enter new `modes`.

    `path` returns the module that starts a task. These blocks are left in the order of turns.
    """
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def new_task() -> Task | None:
        """A new task, if the present thread works for the pass."""
        task = here.task
        if task is None:
            return None
        task.started += 1
        return Task((*task.number, task.started), path())

    def start_followed(self: threading.Thread) -> None:
        if (task := new_task()) is not None:
            self.run = partial(_work, task, modes(), self.run)  # type: ignore[method-assign]
        start(self)

    def submit_followed(self: Executor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if (task := new_task()) is None:
            return submit(self, function, *args, **kwargs)
        mine, here.task = here.task, None  # the pool's own threads outlive this pass
        try:
            return submit(self, _work, task, modes(), function, *args, **kwargs)
        finally:
            here.task = mine

    threading.Thread.start = start_followed  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_followed  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start, ThreadPoolExecutor.submit = start, submit  # type: ignore[method-assign]


def _work(task: Task, modes: Modes, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run the function as part of this task."""
    here.task = task
    try:
        with modes:
            return function(*args, **kwargs)
    finally:
        here.task = None


class Callers:
    """Which threads call which module in one forward pass; skips the modules whose calls cannot be told apart."""

    def __init__(self, skip: Callable[[nn.Module, str], None]) -> None:
        """`skip` records that a module cannot be measured, with the reason."""
        self._skip = skip
        self._tasks: dict[int, Task | None] = {}

    def start_pass(self) -> None:
        """Forget the calls of the pass before."""
        self._tasks.clear()

    def may_be(self, module: nn.Module, running: int | None) -> bool:
        """Whether a call in this thread is part of the forward pass that is `running` in another.

        A thread that was started before may work for this pass or for others, such as a loader that uses the model.
        """
        if running is not None and here.task is None:
            self._skip(module, "called in a thread that was there before the forward pass")
        return running is not None and here.task is not None

    def note(self, module: nn.Module) -> None:
        """Skip a module that several threads call at once, so that its calls cannot be told apart."""
        if self._tasks.setdefault(id(module), here.task) is not here.task:
            self._skip(module, "several threads call it in one forward pass, so that its calls cannot be told apart")


def workers_of(module: nn.Module) -> str | None:
    """The attribute in which a module keeps threads that run already; None if it has none.

    How work gets to such threads is unknown, unless they are those of a `ThreadPoolExecutor`.
    """
    for name, value in vars(module).items():
        if isinstance(value, Pool) or (isinstance(value, threading.Thread) and value.is_alive()):
            return name
    return None
