"""Calls in threads that work for a forward pass are counted, or said to be missed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.judge.policy import Policy

POOL = ThreadPoolExecutor(max_workers=2)


def by_thread(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(function(x)))
    thread.start()
    thread.join()
    return found[0]


class Subclass(threading.Thread):
    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        super().__init__()
        self.function, self.x = function, x

    def run(self) -> None:
        self.found = self.function(self.x)


def by_subclass(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    thread = Subclass(function, x)
    thread.start()
    thread.join()
    return thread.found


def by_new_pool(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function, x).result()


def by_old_pool(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return next(iter(POOL.map(function, [x])))


def by_nested_thread(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return by_thread(lambda z: by_old_pool(function, z), x)


class Net(nn.Module):
    def __init__(self, hand: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
        super().__init__()
        self.hand = hand

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) + self.hand(F.relu, -x)


def rows() -> Tensor:
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    x[:, 1], x[:, 3] = x[:, 1].abs(), -x[:, 3].abs()
    return x


@pytest.mark.parametrize(
    ("hand", "name"),
    [
        (by_thread, "<thread 1>:relu#1"),
        (by_subclass, "<thread 1>:relu#1"),
        (by_new_pool, "<thread 1>:relu#1"),
        (by_old_pool, "<thread 1>:relu#1"),
        (by_nested_thread, "<thread 1.1>:relu#1"),
    ],
)
@pytest.mark.parametrize("stats", ["full", "fired"])
def test_a_function_in_a_thread_that_forward_starts_is_a_site(hand: Any, name: str, stats: str) -> None:
    POOL.submit(int).result()  # its threads are there before the scan
    report = deadrelu.scan(Net(hand), rows(), batch_size=3, stats=stats)
    assert [(s.site.id, s.dead_units, s.samples) for s in report.sites] == [(":relu#1", (3,), 50), (name, (1,), 50)]
    assert report.skipped == ()


def test_functions_in_many_threads_at_once_are_told_apart() -> None:
    """Eight threads, each with another dead unit: an exchange of two calls would make both units look alive."""

    class Many(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            def one(unit: int) -> Tensor:
                mask = torch.ones(8)
                mask[unit] = -1
                return F.relu(x.abs() * mask)

            with ThreadPoolExecutor(max_workers=4) as pool:
                return sum(pool.map(one, range(8)))  # type: ignore[return-value]

    report = deadrelu.scan(Many(), torch.randn(200, 8), batch_size=5)
    found = {s.site.id: s.dead_units for s in report.sites}
    assert found == {f"<thread {unit + 1}>:relu#1": (unit,) for unit in range(8)}
    assert all(s.samples == 200 for s in report.sites)


def test_modules_in_threads_keep_their_names_and_count_right() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Sequential(nn.Linear(5, 64), nn.ReLU()), nn.Sequential(nn.Linear(5, 64), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(max_workers=2) as pool:
                return sum(pool.map(lambda branch: branch(x), [self.a, self.b]))  # type: ignore[return-value]

    torch.manual_seed(0)
    model, x = Branches(), torch.randn(300, 5)
    report = deadrelu.scan(model, x, batch_size=2)
    for site in report.sites:
        layer = model.get_submodule(site.site.module.replace(".1", ".0"))
        with torch.no_grad():
            wanted = torch.cat([layer(part) > 0 for part in x.split(2)]).double().mean(0).tolist()
        assert site.firing_rate == pytest.approx(wanted)
    assert sorted(site.site.id for site in report.sites) == ["a.1", "b.1"]
    assert report.skipped == ()


def test_one_module_in_several_threads_at_once_is_said_to_be_unclear() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(max_workers=2) as pool:
                return sum(pool.map(self.act, [x, -x]))  # type: ignore[return-value]

    report = deadrelu.scan(Shared(), rows(), policy=Policy(strict=True))
    assert [skipped.id for skipped in report.skipped] == ["act"]
    assert "several threads" in report.skipped[0].reason
    assert report.verdict == "fail"


def test_a_module_in_a_thread_that_was_there_before_is_skipped_with_the_reason() -> None:
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[Tensor] = queue.SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            done.put(task[0](task[1]))

    class Queued(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.mine = nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            tasks.put((self.act, x))
            return done.get() + self.mine(x)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        report = deadrelu.scan(Queued(), rows())
    finally:
        tasks.put(None)
        thread.join()
    assert [site.site.id for site in report.sites] == ["mine"]
    assert [(skipped.id, skipped.op) for skipped in report.skipped[:1]] == [("act", "relu")]
    assert "thread" in report.skipped[0].reason


def test_a_model_that_keeps_a_pool_at_work_is_said_to_hide_functions() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = ThreadPool(1)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x) + self.pool.apply(F.relu, (-x,))

    model = Pooled()
    try:
        report = deadrelu.scan(model, rows(), policy=Policy(strict=True))
    finally:
        model.pool.terminate()
    assert [site.site.id for site in report.sites] == ["act"]
    assert "`pool`" in report.skipped[0].reason
    assert report.verdict == "fail"


def test_a_thread_that_outlives_its_forward_pass_is_not_counted_in_the_next() -> None:
    go = threading.Event()
    threads: list[threading.Thread] = []

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not threads:

                def late() -> None:
                    go.wait(20)
                    F.relu(x.new_ones(5, 7))

                threads.append(threading.Thread(target=late))
                threads[0].start()
            return F.relu(x)

    def batches() -> Any:
        yield rows()[:25]
        go.set()
        threads[0].join()
        yield rows()[25:]

    report = deadrelu.scan(Detached(), batches())
    assert [(s.site.id, s.samples) for s in report.sites] == [(":relu#1", 50)]


def test_nothing_of_threading_is_left_changed() -> None:
    before = threading.Thread.start, ThreadPoolExecutor.submit
    deadrelu.scan(Net(by_thread), rows())
    with pytest.raises(deadrelu.DeadreluError):
        deadrelu.scan(Net(lambda *_: 1 / 0), rows())  # type: ignore[arg-type, return-value]
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
