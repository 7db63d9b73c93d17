"""Restarting units between two steps: the output stays, the optimizer's memory is that of live units, and they live."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import UsageError
from tests.training.conftest import digits

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True),
    "adam, foreach": lambda p: torch.optim.Adam(p, 1e-3, foreach=True),
    "adam, fused": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-4, centered=True, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-3),
    "adamax": lambda p: torch.optim.Adamax(p, 1e-3),
}
DEAD = (2, 5, 11)


def convolutional() -> nn.Sequential:
    first = (nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *first, nn.Flatten(), nn.Linear(108, 10))


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 10))


def kill(model: nn.Sequential) -> None:
    """Plant the dead units at the first site."""
    layer = model[2] if isinstance(model[1], nn.Conv2d) else model[0]
    with torch.no_grad():
        layer.bias[list(DEAD)] = -100.0
        if layer is model[0]:
            model[2].bias[:] = 3.0  # no unit of the second site is dead


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int, seed: int = 0) -> None:
    chance = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=chance)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def trained(make: Callable[[], nn.Sequential], optimizer: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """A model with dead units, trained for as long as the optimizer needs to have a memory."""
    torch.manual_seed(0)
    model = make()
    kill(model)
    found = OPTIMIZERS[optimizer](model.parameters())
    train(model, found, *digits(), 20)
    return model.eval(), found


@pytest.mark.parametrize("make", [plain, convolutional], ids=["plain", "convolutional"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_output_stays_and_the_memory_is_that_of_live_units(make: Callable[[], nn.Sequential], name: str) -> None:
    model, optimizer = trained(make, name)
    x, _ = digits()
    before, state = model(x), copy.deepcopy({p: dict(s) for p, s in optimizer.state.items()})
    known = dict(zip(optimizer.state, state.values(), strict=True))
    dead = {s.site.id: s.dead_units for s in deadrelu.scan(model, x).sites if s.dead}
    found = deadrelu.recycle(model, optimizer, x)
    assert torch.equal(model(x), before)
    assert {id: each.units for id, each in found.items()} == dead
    assert set(DEAD) <= set(next(iter(dead.values())))
    for each, layer, reader in _sites(model, found):
        new = list(each.units)
        live = [unit for unit in range(len(layer.weight)) if unit not in new]
        width = reader.weight.shape[1] // len(layer.weight)
        columns = [unit * width + k for unit in new for k in range(width)]
        others = [unit * width + k for unit in live for k in range(width)]
        for parameter, dim, at, peers in (
            (layer.weight, 0, new, live),
            (layer.bias, 0, new, live),
            (reader.weight, 1, columns, others),
        ):
            for key, value in optimizer.state.get(parameter, {}).items():
                was = known[parameter][key]
                if value.shape != parameter.shape:
                    assert torch.equal(value, was), key
                    continue
                first = key in ("exp_avg", "momentum_buffer", "grad_avg")
                wanted = 0.0 if first else float(was.index_select(dim, torch.tensor(peers)).mean())
                assert torch.allclose(value.index_select(dim, torch.tensor(at)), torch.tensor(wanted)), key
    assert deadrelu.scan(model, x).sites[0].dead < len(DEAD)


def _sites(model: nn.Sequential, found: Any) -> list[tuple[Any, Any, Any]]:
    """Each restarted site with its layer and the layer that reads it."""
    modules = list(model)
    out = []
    for id, each in found.items():
        place = int(id)
        before = [m for m in modules[:place] if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
        after = next(m for m in modules[place:] if isinstance(m, (nn.Linear, nn.Conv2d)))
        out.append((each, before, after))
    return out


def test_other_units_and_their_memory_stay_as_they_are() -> None:
    model, optimizer = trained(plain, "adam")
    before, memory = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    found = deadrelu.recycle(model, optimizer, digits()[0])
    for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
        rows = [u for id, each in found.items() for u in each.units if name.startswith(f"{int(id) - 1}.")]
        columns = [u for id, each in found.items() for u in each.units if name == f"{int(id) + 1}.weight"]
        same = torch.ones_like(new, dtype=torch.bool)
        same[rows] = False
        if columns:
            same[:, columns] = False
        assert torch.equal(new[same], old[same])
        place = next(id for id, p in enumerate(model.parameters()) if p is new)
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[new][key][same], memory["state"][place][key][same])


@pytest.fixture(scope="module")
def long_trained() -> list[tuple[nn.Sequential, torch.optim.Optimizer]]:
    """Models that lost many units at a high learning rate, as measured before (800 steps of Adam at 0.01 on digits)."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        layers = [m for a, b in pairwise((64, 128, 128, 64)) for m in (nn.Linear(a, b), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        train(model, optimizer, *digits(), 800, seed)
        found.append((model, optimizer))
    return found


@pytest.mark.parametrize(("moments", "least", "most"), [("live mean", 0, 0.35), ("zero", 0.5, 1), ("keep", 0.5, 1)])
def test_restarted_units_live_on_with_the_memory_of_live_ones(
    long_trained: list[tuple[nn.Sequential, torch.optim.Optimizer]], moments: Any, least: float, most: float
) -> None:
    x, y = digits()
    again = restarted = 0
    for seed, one in enumerate(long_trained):
        model, optimizer = copy.deepcopy(one)  # together, so that the one still trains the other
        found = deadrelu.recycle(model, optimizer, x, moments=moments, draw=99)
        train(model, optimizer, x, y, 400, 1000 + seed)
        after = {s.site.id: set(s.dead_units) for s in deadrelu.scan(model, x).sites}
        restarted += sum(len(each.units) for each in found.values())
        again += sum(len(after[id] & set(each.units)) for id, each in found.items())
    assert restarted > 100
    assert least <= again / restarted <= most


def test_a_share_of_the_least_is_taken_by_either_rule() -> None:
    model, optimizer = trained(plain, "adam")
    x, _ = digits()
    stats = deadrelu.scan(model, x).sites
    scores = {s.site.id: [d or 0.0 for d in s.dormancy] for s in stats}
    some = deadrelu.recycle(copy.deepcopy(model), None, x, tau=1.0, most=0.25)
    for id, each in some.items():
        most = math.floor(0.25 * len(scores[id]))
        least = sorted(range(len(scores[id])), key=lambda u: (scores[id][u], u))
        assert each.units == tuple(sorted([u for u in least if scores[id][u] <= 1.0][:most]))
    with torch.no_grad():
        h, sizes = model[:2](x).abs().mean(0), model[2].weight.abs().sum(0)
    useful = (h * sizes).tolist()
    by_use = deadrelu.recycle(model, optimizer, x, rule="utility", most=0.25)
    assert by_use["1"].units == tuple(sorted(sorted(range(12), key=lambda u: (useful[u], u))[:3]))


def test_a_recycler_restarts_at_every_nth_step_until_one_and_goes_on_from_its_state() -> None:
    model, optimizer = trained(plain, "adam")
    x, _ = digits()
    recycler = deadrelu.recycler(model, optimizer, x, every=3, until=7)
    found = []
    for step in range(1, 13):
        kill(model)
        if step == 5:
            state = recycler.state_dict()
            recycler = deadrelu.recycler(model, optimizer, x, every=3, until=7)
            recycler.load_state_dict(state)
        if recycler.step():
            found.append(step)
    assert found == [3, 6]
    assert recycler.restarted >= 2 * len(DEAD)
    with pytest.raises(UsageError, match="every=0"):
        deadrelu.recycler(model, optimizer, x, every=0)


def test_a_monitor_knows_the_dead_units() -> None:
    model, optimizer = trained(plain, "adam")
    x, y = digits()
    model.train()
    with deadrelu.watch(model, every=1, dead_after=200) as monitor:
        for step in range(6):
            rows = slice(64 * step, 64 * step + 64)
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            monitor.step()
        silent = {id: tuple(units) for id, units in monitor.dead_units().items() if units}
        found = deadrelu.recycle(model, optimizer, monitor)
    assert {id: each.units for id, each in found.items()} == silent
    assert set(DEAD) <= set(silent["1"])


class Tied(nn.Module):
    """The weight that reads the units is the embedding's too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)
        self.other = nn.Linear(12, 10)
        self.other.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x))
        return self.second(h) + self.other(h)


class Returned(Tied):
    """Its units are an output."""

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.first(x))


class Functional(Tied):
    """Its units are those of a function call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.mark.parametrize("options", [{}, {"rule": "utility", "most": 0.2}])
@pytest.mark.parametrize("make", [Tied, Returned, Functional])
def test_a_site_that_is_read_elsewhere_is_refused_with_the_reason(
    make: Callable[[], Tied], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        model.first.bias[3] = -100.0
    before = copy.deepcopy(model.state_dict())
    (found,) = deadrelu.recycle(model, torch.optim.Adam(model.parameters()), digits()[0], **options).values()
    assert found.units == ()
    assert found.obstacle
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Odd(torch.optim.SGD):
    """An optimizer that keeps something of its own."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["direction"] = torch.zeros_like(p)
        return super().step(closure)


def test_an_optimizer_that_is_not_known_is_refused_before_anything_changes() -> None:
    model, _ = trained(plain, "sgd")
    optimizer = Odd(model.parameters(), 0.01)
    train(model, optimizer, *digits(), 1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match="keeps `direction` of its weights"):
        deadrelu.recycle(model, optimizer, digits()[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert deadrelu.recycle(model, optimizer, digits()[0], moments="keep")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tau": -1.0}, "tau=-1 is below 0"),
        ({"most": 0.0}, "most=0 is not a share"),
        ({"rule": "age"}, "rule='age'"),
        ({"rule": "utility"}, "there is no limit"),
        ({"moments": "fresh"}, "moments='fresh'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        deadrelu.recycle(plain(), None, digits()[0], **options)


def test_a_model_without_dead_units_is_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    with torch.no_grad():
        model[0].bias[:] = 3.0
    assert deadrelu.recycle(model, None, digits()[0]) == {}
