"""What a scan borrows from the process it gives back, whoever else scans or changes it meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import DataError, DeadreluError, ModelError, UsageError
from deadrelu.load.trust import Trust
from deadrelu.report import Report

KINDS = ["module", "function", "script", "export"]


class Functional(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x))


def planted(seed: int, units: int = 32) -> nn.Module:
    """A layer of which about half of the units never fire on `rows`."""
    layer = nn.utils.skip_init(nn.Linear, 4, units)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(units, 4, generator=generator))
        layer.bias.copy_(torch.randn(units, generator=generator) * 6)
    return layer


def rows(samples: int = 120) -> Tensor:
    return torch.randn(samples, 4, generator=torch.Generator().manual_seed(9))


def made(kind: str, seed: int, folder: Path) -> tuple[Any, list[int]]:
    """A model of this kind, what `scan` takes for it, and its dead units by hand."""
    layer = planted(seed)
    with torch.no_grad():
        dead = (layer(rows()) > 0).any(0).logical_not().nonzero().flatten().tolist()
    model = Functional(layer) if kind == "function" else nn.Sequential(layer, nn.ReLU(), nn.Dropout(0.5))
    if kind == "script":
        torch.jit.save(torch.jit.script(model), folder / f"{seed}.pt")
        return folder / f"{seed}.pt", dead
    if kind == "export":
        batch = torch.export.Dim("batch", min=2, max=64)
        exported = torch.export.export(model.eval(), (rows(8),), dynamic_shapes=({0: batch},))
        torch.export.save(exported, folder / f"{seed}.pt2")
        return folder / f"{seed}.pt2", dead
    return model.train(), dead


def scan(model: Any, data: Any = None, **options: Any) -> Report:
    data = rows() if data is None else data
    return deadrelu.scan(model, data, batch_size=8, trust=Trust(all=True), **options)


def surroundings() -> dict[str, Any]:
    """All that belongs to the process and not to a scan."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "folder": os.getcwd(),
        "stdout": sys.stdout,
        "threads": threading.Thread.start,
    }


@pytest.fixture(autouse=True)
def _all_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = surroundings()
    yield
    assert surroundings() == before


@pytest.mark.parametrize("draw", [random.random, lambda: np.random.rand(), lambda: torch.rand(()).item()])
def test_a_model_and_a_loader_that_draw_random_numbers_draw_the_same_in_each_scan(draw: Callable[[], float]) -> None:
    drawn: list[list[float]] = []

    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            drawn[-1].append(draw())
            return F.relu(x)

    def loader() -> Iterator[Tensor]:
        for _ in range(3):
            drawn[-1].append(draw())
            yield rows(8)

    python, numpy, mine = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for _ in range(2):
        drawn.append([])
        scan(Drawing(), loader)
        draw()  # the second scan begins from another state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(mine)
    assert len(drawn[0]) >= 6
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", KINDS)
def test_scans_in_several_threads_are_right_and_leave_everything_as_it_was(kind: str, tmp_path: Path) -> None:
    models = [made(kind, seed, tmp_path) for seed in range(4)]
    found: dict[int, list[tuple[int, ...]]] = {}

    def work(number: int) -> None:
        for _ in range(3):
            report = scan(models[number % 4][0])
            found.setdefault(number, []).append(report.sites[0].dead_units)
            assert report.sites[0].samples == 120

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]  # two models are shared
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [tuple(models[number % 4][1])] * 3 for number in range(6)}
    if kind in ("module", "function"):
        assert all(module.training for model, _ in models for module in model.modules())
        assert not any(module._forward_pre_hooks for model, _ in models for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_that_scans_another_or_the_same_model_gets_the_right_answer(kind: str, tmp_path: Path) -> None:
    (model, dead), (other, other_dead) = made(kind, 1, tmp_path), made(kind, 2, tmp_path)
    inner: list[tuple[int, ...]] = []

    def loader() -> Iterator[Tensor]:
        for part in rows().split(40):
            inner.append(scan(other).sites[0].dead_units)
            inner.append(scan(model).sites[0].dead_units)
            yield part

    report = scan(model, loader)
    assert report.sites[0].dead_units == tuple(dead)
    assert report.sites[0].samples == 120
    assert inner == [tuple(other_dead), tuple(dead)] * 3


def test_a_loader_that_waits_for_a_scan_in_another_thread_does_not_wait_forever(tmp_path: Path) -> None:
    (model, dead), (other, other_dead) = made("module", 1, tmp_path), made("module", 2, tmp_path)
    inner: list[tuple[int, ...]] = []

    def loader() -> Iterator[Tensor]:
        for part in rows().split(40):
            thread = threading.Thread(target=lambda: inner.append(scan(other).sites[0].dead_units), daemon=True)
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
            yield part

    assert scan(model, loader).sites[0].dead_units == tuple(dead)
    assert inner == [tuple(other_dead)] * 3


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_scan_inside_a_scanned_forward_is_one_line(in_thread: bool) -> None:
    raised: list[BaseException] = []

    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            def inner() -> None:
                try:
                    scan(Functional(planted(2)))
                except DeadreluError as error:
                    raised.append(error)
                    raise

            def inner_in_thread() -> None:
                with pytest.raises(UsageError):
                    inner()

            if in_thread:
                thread = threading.Thread(target=inner_in_thread)
                thread.start()
                thread.join(60)
                raise raised[0]
            inner()
            return F.relu(x)

    with pytest.raises(UsageError, match="starts a scan itself"):
        scan(Nested())


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("kind", ["module", "function", "script"])
def test_a_loader_that_runs_the_scanned_model_adds_nothing_and_leaves_it_in_eval_mode(
    kind: str, trains: bool, tmp_path: Path
) -> None:
    model, dead = made(kind, 1, tmp_path)
    live = torch.jit.load(model) if kind == "script" else model
    modes: list[bool] = []

    def loader() -> Iterator[Tensor]:
        for part in rows().split(40):
            live.train(trains)
            live(torch.full((7, 4), 1e4))  # here every unit fires with some of these signs
            live(torch.full((7, 4), -1e4))
            live.train(trains)
            yield part

    if kind != "script":
        live.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    report = deadrelu.scan(live, loader, batch_size=8)
    assert report.sites[0].dead_units == tuple(dead)
    assert report.sites[0].samples == report.sites[0].positions == 120
    assert len(report.sites) == 1
    assert modes[2::3] == [False] * len(modes[2::3])


@pytest.mark.parametrize("who", ["loader", "model"])
def test_who_changes_folder_dtype_or_grad_mode_changes_no_figure(who: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    layer = planted(1)

    def change() -> None:
        os.chdir(tmp_path / "elsewhere")
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)

    class Changing(Functional):
        def forward(self, x: Tensor) -> Tensor:
            if who == "model":
                change()
            return super().forward(x)

    def loader() -> Iterator[Tensor]:
        for part in rows().split(40):
            if who == "loader":
                change()
            yield part

    torch.set_grad_enabled(False)
    try:
        plain, changed = scan(Functional(layer), iter(rows().split(40))), scan(Changing(layer), loader)
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    assert changed.sites[0].dead_units == plain.sites[0].dead_units
    assert changed.sites[0].mean_activation == plain.sites[0].mean_activation


def test_a_loader_may_take_gradients() -> None:
    layer = planted(1)

    def adversarial() -> Iterator[Tensor]:
        for part in rows().split(40):
            x = part.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(layer(x).sum(), [x])
            yield part + gradient.sign() * 0.0

    assert scan(Functional(layer), adversarial).sites[0].samples == 120


class Own(BaseException):
    """No `Exception`."""


ERRORS = [asyncio.CancelledError("off"), GeneratorExit(), SystemExit(1), Own("mine"), StopIteration(), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_whatever_a_model_raises_is_an_error_with_its_place(error: BaseException) -> None:
    class Raising(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise error

    with pytest.raises(ModelError, match=r"the model raised on batch 1.*test_state\.py, line \d+"):
        scan(Raising())


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_whatever_a_loader_raises_is_an_error_with_its_place(error: BaseException) -> None:
    class Loader:
        def __iter__(self) -> Loader:
            return self

        def __next__(self) -> Tensor:
            raise error

    if isinstance(error, StopIteration):  # the end, as ever
        with pytest.raises(DeadreluError, match="not one batch"):
            scan(nn.ReLU(), Loader())
        return
    with pytest.raises(DataError, match=r"failed at batch 0: .*test_state\.py, line \d+"):
        scan(nn.ReLU(), Loader())


@pytest.mark.parametrize("where", ["model", "loader"])
def test_ctrl_c_stays_what_it_is(where: str) -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if where == "model":
                raise KeyboardInterrupt
            return F.relu(x)

    def loader() -> Iterator[Tensor]:
        yield rows()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(Raising(), loader)
    assert scan(nn.ReLU()).sites[0].samples == 120  # and no turn is left taken
