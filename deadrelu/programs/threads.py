"""Threads that work for a forward pass: those that it starts, and those of a pool to which it submits work.

Torch's modes hold for one thread only, so that each of these has to enter them itself.
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
    """Work of one forward pass in one thread: the pass's own thread, or what it hands to others.

    `number` counts the tasks that the same task has handed out, after that one's own number: () is the pass itself,
    (2,) the second of its tasks. `path` is the module whose forward handed it out.
    """

    number: tuple[int, ...] = ()
    path: str = ""
    started: int = 0

    @property
    def name(self) -> str:
        """What tells the calls of this task from those of another: "<thread 2>", "<thread 2.1>"; "" for the pass."""
        return f"<thread {'.'.join(map(str, self.number))}>" if self.number else ""


class _Here(threading.local):
    task: Task | None = None
    inside = False
    """Whether what is called now is part of an activation call that was seen, or of our own work."""


here = _Here()
"""The task of the present thread; None where it does not work for a forward pass."""

Modes = AbstractContextManager[object]
"""What a thread enters before it works on a task."""


@contextmanager
def followed(path: Callable[[], str], modes: Callable[[], Modes]) -> Iterator[None]:
    """While it lasts, threads that work for a forward pass, which is where `here` has a task, enter new `modes`.

    `path` says which module hands out a task. In a process these blocks are left in the order in which turns are.
    """
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def handed() -> Task | None:
        """A new task, where the present thread works for the pass."""
        task = here.task
        if task is None:
            return None
        task.started += 1
        return Task((*task.number, task.started), path())

    def start_followed(self: threading.Thread) -> None:
        if (task := handed()) is not None:
            self.run = partial(_work, task, modes(), self.run)  # type: ignore[method-assign]
        start(self)

    def submit_followed(self: Executor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if (task := handed()) is None:
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
    """Run the function as this task."""
    here.task = task
    try:
        with modes:
            return function(*args, **kwargs)
    finally:
        here.task = None


class Callers:
    """Which threads call which module in one forward pass, and what has to be said of that."""

    def __init__(self, say: Callable[[nn.Module, str], None]) -> None:
        """`say` notes that a module cannot be measured, with the reason."""
        self._say = say
        self._tasks: dict[int, Task | None] = {}

    def start_pass(self) -> None:
        """Nothing was called yet."""
        self._tasks.clear()

    def may_be(self, module: nn.Module, running: int | None) -> bool:
        """Whether a call in this thread is part of the forward pass that is `running` in that one.

        A thread that was there before may work for this pass or for anyone, such as a loader that uses the model.
        """
        if running is not None and here.task is None:
            self._say(module, "called in a thread that was there before the forward pass")
        return running is not None and here.task is not None

    def note(self, module: nn.Module) -> None:
        """Say where the calls of a module cannot be told apart, since several threads make them at once."""
        if self._tasks.setdefault(id(module), here.task) is not here.task:
            self._say(module, "several threads call it in one forward pass, so that its calls cannot be told apart")


def workers_of(module: nn.Module) -> str | None:
    """The attribute in which a module keeps threads that are at work already; None if it keeps none.

    How work gets to them is not known. Of a `ThreadPoolExecutor` it is.
    """
    for name, value in vars(module).items():
        if isinstance(value, Pool) or (isinstance(value, threading.Thread) and value.is_alive()):
            return name
    return None
