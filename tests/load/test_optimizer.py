"""What the state of an optimizer says without data: which parameter each entry is of, and which units are quiet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deadrelu.load.optimizer import describe, optimizers_in, parameters_of
from tests.training.conftest import digits


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2, width: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, width)).square().sum().backward()
        optimizer.step()


def marked(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, float]:
    """Give the entry of each parameter a value of its own, by the parameter's name."""
    values = {}
    for place, (parameter, kept) in enumerate(optimizer.state.items()):
        kept["exp_avg"].fill_(place + 1)
        values[names[id(parameter)]] = float(place + 1)
    return values


def read_back(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> dict[str, float]:
    [found] = optimizers_in({"epoch": 1, "deep": [{"optimizer": optimizer.state_dict()}], "model": state})
    assert found.key == "deep.0.optimizer"
    names = found.names(parameters_of(state))
    return {name: float(found.state[number]["exp_avg"].flatten()[0]) for number, name in names.items()}


def groups_of(model: nn.Module) -> dict[str, Any]:
    """The ways in which people give parameters to an optimizer."""
    named = dict(model.named_parameters())
    flat = [p for p in named.values() if p.ndim < 2]
    weights = [p for p in named.values() if p.ndim >= 2]
    return {
        "all": list(named.values()),
        "named": list(reversed(list(named.items()))),
        "decay and none": [{"params": weights, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}],
        "the last layer": list(model[5].parameters()),  # type: ignore[index]
        "names in groups": [
            {"params": [("0.weight", named["0.weight"])]},
            {"params": [(name, p) for name, p in reversed(named.items()) if name != "0.weight"]},
        ],
    }


@pytest.mark.parametrize("way", list(groups_of(mlp())))
def test_each_entry_is_of_the_parameter_that_the_optimizer_had(way: str) -> None:
    model = mlp()
    given = groups_of(model)[way]
    optimizer = torch.optim.AdamW(given, 0.01)
    train(model, optimizer)
    expected = marked(optimizer, {id(p): name for name, p in model.named_parameters()})
    found = read_back(optimizer, model.state_dict())
    assert found == expected if way != "the last layer" else found.items() <= expected.items()
    assert found


def test_an_order_that_may_be_another_is_not_guessed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    parts: Iterable[Any] = [{"params": list(model[2].parameters())}, {"params": list(model[0].parameters())}]
    optimizer = torch.optim.Adam(parts, 0.01)
    train(model, optimizer)
    assert read_back(optimizer, model.state_dict()) == {}


def test_frozen_parameters_of_the_same_shape_leave_it_open() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    optimizer = torch.optim.Adam(model[2].parameters(), 0.01)
    train(model, optimizer)
    assert read_back(optimizer, model.state_dict()) == {}


def test_names_without_those_of_wrappers_are_found() -> None:
    model = mlp()
    optimizer = torch.optim.Adam([(f"module.{name}", p) for name, p in model.named_parameters()], 0.01)
    train(model, optimizer)
    assert read_back(optimizer, model.state_dict()).keys() == dict(model.named_parameters()).keys()


def test_what_only_looks_like_an_optimizer_is_left_alone() -> None:
    for root in (None, [], {"state": {}}, {"state": {}, "param_groups": []}, {"state": 3, "param_groups": [{}]}):
        assert optimizers_in({"optimizer": root}) == ()


@pytest.mark.parametrize(("seed", "lr", "steps"), [(0, 0.03, 900), (2, 0.1, 500)])
def test_the_clock_against_the_gradients_that_were_seen(seed: int, lr: float, steps: int) -> None:
    x, y = digits()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    last = {name: torch.zeros(96, dtype=torch.long) for name in ("0.bias", "2.bias")}
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        for name, seen in last.items():
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            seen[gradient != 0] = step
    state = model.state_dict()
    [info] = describe(optimizers_in({"optimizer": optimizer.state_dict()}), parameters_of(state), state)
    assert (info.key, info.steps, info.lr, info.weight_decay, info.obstacle) == ("optimizer", steps, (lr,), (0.0,), "")
    quiet = {layer.parameter: dict(zip(layer.units, layer.since, strict=True)) for layer in info.quiet}
    truly = {(name, int(unit)) for name, seen in last.items() for unit in torch.nonzero(seen <= steps - 110)}
    said = {(name, unit) for name, units in quiet.items() for unit in units}
    assert len(truly) > 20
    assert truly <= said
    errors = sorted(
        abs(since - int(last[name][unit])) for name, unit in truly if (since := quiet[name][unit]) is not None
    )
    assert len(errors) > 20
    assert errors[len(errors) // 2] <= 40, errors
    for name, unit in truly:
        if quiet[name][unit] is None:
            assert last[name][unit] == 0 or last[name][unit] < steps - 500


def test_a_decay_in_the_gradient_hides_them_and_it_says_so() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 0.01, weight_decay=0.1)
    train(model, optimizer)
    state = model.state_dict()
    [info] = describe(optimizers_in({"o": optimizer.state_dict()}), parameters_of(state), state)
    assert info.obstacle == "its weight decay is part of the gradients that it remembers"
    assert info.weight_decay == (0.1,)
    [plain] = describe(
        optimizers_in({"o": torch.optim.SGD(model.parameters(), 0.5).state_dict()}), parameters_of(state), state
    )
    assert (plain.lr, plain.obstacle) == ((0.5,), "it does not keep Adam's two moments")


def test_only_biases_of_units_are_read() -> None:
    """Not the bias before a batch norm, whose gradient is 0 but for rounding, nor that of a layer norm."""
    model = nn.Sequential(
        nn.Embedding(50, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.Flatten(0, -2), nn.BatchNorm1d(6), nn.ReLU()
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model[4].bias.data[2] = -50
    for _ in range(160):
        optimizer.zero_grad()
        model(torch.randint(5, (8, 3))).square().sum().backward()
        optimizer.step()
    state = model.state_dict()
    [info] = describe(optimizers_in({"o": optimizer.state_dict()}), parameters_of(state), state)
    assert {layer.parameter for layer in info.quiet} == {"4.bias"}
    assert 2 in info.quiet[0].units
