"""A training checkpoint with restarted units: what changes in the file, and what the loop makes of it afterwards."""

from __future__ import annotations

import argparse
import copy
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import UsageError
from deadrelu.load.inspection.inspect import inspect
from deadrelu.render.terminal.inspection import render
from deadrelu.report.advice import PatchResult
from tests.training.conftest import DIGITS, digits

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x))
"""
DEAD = {"body.1": (2, 5, 11), "body.4": (0, 7)}
Make = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), 0.01, momentum=0.9),
    "adam": lambda net: torch.optim.Adam(net.parameters(), 1e-3),
    "adamw, amsgrad": lambda net: torch.optim.AdamW(net.parameters(), 1e-3, amsgrad=True),
    "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), 1e-4, centered=True, momentum=0.9),
    "named, reversed": lambda net: torch.optim.Adam(reversed(list(net.named_parameters())), 1e-3),
    "decay and none": lambda net: torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        1e-3,
    ),
}


@dataclass
class Training:
    """A network that trained for a while, with dead units, and its optimizer."""

    net: nn.Module
    optimizer: torch.optim.Optimizer

    def step(self, steps: int, seed: int = 0) -> None:
        x, y = digits()
        chance = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            rows = torch.randint(len(x), (64,), generator=chance)
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(x[rows]), y[rows]).backward()
            self.optimizer.step()


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], nn.Module]:
    """Make the network of net.py, which lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CODE)
    space: dict[str, Any] = {"__name__": "net"}
    exec(CODE, space)

    def make() -> nn.Module:
        torch.manual_seed(0)
        net: nn.Module = space["Net"]()
        return net

    return make


def trained(net: nn.Module, make: Make) -> Training:
    """A network in which the units of `DEAD` have died early."""
    torch.manual_seed(0)
    training = Training(net, make(net))
    training.step(30)
    with torch.no_grad():
        net.body[0].bias.fill_(3.0)[list(DEAD["body.1"])] = -100.0  # type: ignore[index, union-attr]
        net.body[3].bias.fill_(1.0)[list(DEAD["body.4"])] = -100.0  # type: ignore[index, union-attr]
    training.step(30, seed=1)
    return training


def patched(path: str, **options: Any) -> PatchResult:
    return deadrelu.patch(path, DIGITS, output="out.pt", arch="net.py:Net", to="keep", reinit=True, **options)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nest of containers, by its place, and the classes of the containers."""
    if isinstance(value, dict):
        yield f"{key} class", type(value)
        yield f"{key} keys", list(value)
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    elif isinstance(value, (list, tuple)):
        yield f"{key} class", type(value)
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{key}.{place}")
    else:
        yield key, value


def bits(value: Any) -> object:
    """Something that is equal where values are equal to the last bit."""
    if isinstance(value, Tensor):
        held = io.BytesIO()
        np.save(held, value.numpy())
        return (value.dtype, value.shape, value.stride(), held.getvalue())
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape, value.tobytes())
    return (type(value), repr(value))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_file_is_what_recycling_in_the_loop_makes_and_the_loop_goes_on(
    name: str, network: Callable[[], nn.Module]
) -> None:
    training = trained(network(), OPTIMIZERS[name])
    schedule = torch.optim.lr_scheduler.StepLR(training.optimizer, 10)
    rest = {
        "epoch": 3,
        "best": np.float64(0.5),
        "args": argparse.Namespace(lr=0.03, out=Path("runs")),
        "rng": torch.get_rng_state(),
        "numpy": np.random.default_rng(0).normal(size=3),
        "history": [(1, 0.5), (2, float("nan"))],
        "scheduler": schedule.state_dict(),
        "ema": {key: value + 1 for key, value in training.net.state_dict().items()},
    }
    torch.save({"model": training.net.state_dict(), "optimizer": training.optimizer.state_dict(), **rest}, "ck.pt")
    before = Path("ck.pt").read_bytes()
    result = patched("ck.pt", weights_key="model")
    assert Path("ck.pt").read_bytes() == before
    assert result.opens_as_before
    assert not result.needs_trust
    assert result.drift is not None
    assert result.drift.largest == 0

    found = torch.load("out.pt", weights_only=False)
    old = torch.load("ck.pt", weights_only=False)
    assert list(found) == list(old)
    kept = [key for key in old if key not in ("model", "optimizer")]
    for key in kept:
        was, now = dict(leaves(old[key])), dict(leaves(found[key]))
        assert {at: bits(value) for at, value in was.items()} == {at: bits(value) for at, value in now.items()}, key

    # The oracle: the same restart of the live network and the live optimizer, and the same steps after it.
    restarted = deadrelu.recycle(training.net, training.optimizer, DIGITS)
    assert {site: each.units for site, each in restarted.items()} == DEAD
    again = Training(network(), OPTIMIZERS[name](network()))
    again.net.load_state_dict(found["model"])
    again.optimizer = OPTIMIZERS[name](again.net)
    again.optimizer.load_state_dict(found["optimizer"])
    for steps in (0, 5):
        training.step(steps, seed=2)
        again.step(steps, seed=2)
        for key, value in training.net.state_dict().items():
            assert torch.equal(value, again.net.state_dict()[key]), (steps, key)


def test_only_entries_of_restarted_units_change_and_sizes_are_those_of_live_units(
    network: Callable[[], nn.Module],
) -> None:
    training = trained(network(), OPTIMIZERS["adam"])
    torch.save(
        {"state_dict": training.net.state_dict(), "optimizer_states": [training.optimizer.state_dict()]}, "ck.pt"
    )
    result = patched("ck.pt")
    assert any("the optimizer at 'optimizer_states.0'" in note for note in result.notes)
    old, new = (torch.load(name)["optimizer_states"][0]["state"] for name in ("ck.pt", "out.pt"))
    rows = {0: "body.1", 1: "body.1", 2: "body.4", 3: "body.4", 4: "body.4", 5: "body.4"}
    columns = {2: "body.1", 6: "body.4"}
    for number in old:
        fresh = torch.zeros(old[number]["exp_avg"].shape, dtype=torch.bool)
        if number in rows:
            fresh[list(DEAD[rows[number]])] = True
        if number in columns:
            fresh[:, list(DEAD[columns[number]])] = True
        assert torch.equal(old[number]["step"], new[number]["step"])
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(old[number][moment][~fresh], new[number][moment][~fresh]), (number, moment)
        assert (new[number]["exp_avg"][fresh] == 0).all()
    alive = [unit for unit in range(24) if unit not in DEAD["body.1"]]
    assert torch.equal(new[1]["exp_avg_sq"][2], old[1]["exp_avg_sq"][alive].mean())


def test_a_state_dict_stays_one(network: Callable[[], nn.Module]) -> None:
    training = trained(network(), OPTIMIZERS["sgd"])
    state = OrderedDict((f"module.{key}", value) for key, value in training.net.state_dict().items())
    torch.save(state, "weights.pt")
    assert patched("weights.pt").opens_as_before
    found = torch.load("out.pt")
    assert list(found) == list(state)
    changed = {key for key in state if not torch.equal(state[key], found[key])}
    assert changed == {
        f"module.{key}"
        for key in (
            *("body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias", "head.weight"),
            *("body.3.bias", "body.3.weight", "body.3.running_mean", "body.3.running_var"),
        )
    }


def test_the_old_format_stays_the_old_format(network: Callable[[], nn.Module]) -> None:
    training = trained(network(), OPTIMIZERS["adam"])
    torch.save(
        {"model": training.net.state_dict(), "optimizer": training.optimizer.state_dict()},
        "ck.pt",
        _use_new_zipfile_serialization=False,
    )
    assert patched("ck.pt").opens_as_before
    assert Path("out.pt").read_bytes()[:2] == b"\x80\x02"
    assert deadrelu.scan("out.pt", DIGITS, arch="net.py:Net").summary.dead == 0


class Of:
    """Something that no weights-only reader makes."""


def test_a_file_with_other_objects_gives_a_whole_module_and_says_what_is_lost(
    network: Callable[[], nn.Module],
) -> None:
    training = trained(network(), OPTIMIZERS["adam"])
    torch.save(
        {"model": training.net.state_dict(), "optimizer": training.optimizer.state_dict(), "more": Of()}, "ck.pt"
    )
    result = patched("ck.pt")
    assert not result.opens_as_before
    assert any("the optimizer's state is not in it" in note for note in result.notes)
    assert isinstance(torch.load("out.pt", weights_only=False), nn.Module)


def halves(net: nn.Module) -> torch.optim.Optimizer:
    """An optimizer with parameters of one shape in two groups."""
    named = list(net.named_parameters())
    first = [p for name, p in named if name.startswith(("body.0", "head"))]
    second = [p for name, p in named if name.startswith(("body.2", "body.3"))]
    return torch.optim.Adam([{"params": first}, {"params": second}], 1e-3)


def refusals(net: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Checkpoints in which it is not clear what belongs to the restarted units, and what the refusal says."""
    training = trained(net, OPTIMIZERS["adam"])
    state, optimizer = net.state_dict(), training.optimizer.state_dict()
    ambiguous = trained(copy.deepcopy(net), halves)
    factored = trained(copy.deepcopy(net), lambda net: torch.optim.Adafactor(net.parameters(), 1e-3))
    return {
        "two of them": ({"model": state, "generator": optimizer, "critic": optimizer}, "'generator' and 'critic'"),
        "groups": (
            {"model": ambiguous.net.state_dict(), "opt": ambiguous.optimizer.state_dict()},
            "'opt' is of",
        ),
        "adafactor": ({"model": factored.net.state_dict(), "opt": factored.optimizer.state_dict()}, "of its weights"),
    }


@pytest.mark.parametrize("name", ["two of them", "groups", "adafactor"])
def test_what_is_not_clear_is_refused_and_nothing_is_written(name: str, network: Callable[[], nn.Module]) -> None:
    held, says = refusals(network())[name]
    torch.save(held, "ck.pt")
    with pytest.raises(UsageError, match=says):
        patched("ck.pt")
    assert not Path("out.pt").exists()
    assert not list(Path.cwd().glob(".out*"))


def test_an_optimizer_of_other_parameters_alone_is_left_as_it_is(network: Callable[[], nn.Module]) -> None:
    net = network()
    other = nn.Linear(3, 5)
    training = trained(net, OPTIMIZERS["adam"])
    second = torch.optim.Adam(other.parameters(), 0.1)
    other(torch.ones(2, 3)).sum().backward()
    second.step()
    torch.save(
        {"model": net.state_dict(), "opt": training.optimizer.state_dict(), "other": second.state_dict()}, "ck.pt"
    )
    result = patched("ck.pt")
    assert [note for note in result.notes if "optimizer" in note] == [
        "what the optimizer at 'opt' remembers of these units was mended, in 7 parameters"
    ]
    old, new = torch.load("ck.pt")["other"], torch.load("out.pt")["other"]
    assert {at: bits(value) for at, value in leaves(old)} == {at: bits(value) for at, value in leaves(new)}


def test_suggest_names_it_first_with_what_the_optimizer_tells(network: Callable[[], nn.Module]) -> None:
    training = trained(network(), lambda net: torch.optim.AdamW(net.parameters(), 0.003, weight_decay=0.02))
    training.step(140, seed=3)
    torch.save({"model": training.net.state_dict(), "optimizer": training.optimizer.state_dict()}, "ck.pt")
    report = deadrelu.scan("ck.pt", DIGITS, arch="net.py:Net", invocation=("ck.pt", "--arch=net.py:Net"))
    assert report.from_json(report.to_json()).model == report.model
    [info] = report.model.optimizers
    assert set(DEAD["body.1"]) <= {layer.parameter: set(layer.units) for layer in info.quiet}["body.0.bias"]
    inspected = inspect("ck.pt")  # without the code, and without data
    assert inspected.optimizers == report.model.optimizers
    assert json.loads(inspected.to_json())["optimizers"][0]["weight_decay"] == [0.02]
    text = render(inspected)
    assert "at 'optimizer', step 200, learning rate 0.003, weight decay 0.02" in " ".join(text.split())
    assert "body.0.bias: " in text
    advice = deadrelu.suggest(report)
    assert "--reinit --with keep" in (advice.whole[0].command or "")
    assert "--slope" not in (advice.whole[0].command or "")
    [item] = [item for item in advice.items if item.site == "body.1"]
    assert "By what the optimizer remembers, 3 of them had no gradient" in item.says
    assert "weight decay of 0.02" in advice.caution
    titles = [remedy.title for item in advice.items for remedy in item.remedies]
    assert any("a learning rate below 0.003" in title for title in titles), titles
