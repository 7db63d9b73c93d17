"""Objects and dictionaries that hold several modules: each is opened by its place, and no code of the object runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import FileError, TrustError, UsageError
from deadrelu.load.inspection.inspect import inspect
from deadrelu.load.trust import Trust

Save = Callable[..., Path]


class Agent:
    """An object of reinforcement learning: networks, an optimizer, settings."""

    def __init__(self) -> None:
        self.gamma = 0.99
        self.actor = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.critic = nn.Sequential(nn.Linear(4, 1), nn.ReLU())
        self.adam = torch.optim.Adam(self.actor.parameters())

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("code of the file ran")


class Slotted:
    """The same with slots."""

    __slots__ = ("actor",)

    def __init__(self) -> None:
        self.actor = nn.Linear(4, 3)


@dataclass
class Networks:
    """A record of networks, one of them deeper down."""

    policy: nn.Module = field(default_factory=lambda: nn.Linear(4, 2))
    inner: dict[str, Any] = field(default_factory=lambda: {"value": nn.Linear(4, 1)})


def test_the_networks_of_an_object_are_listed_and_opened_without_its_code(save: Save) -> None:
    agent = Agent()
    path = save(agent)
    with pytest.raises(UsageError, match="holds several modules: 'actor', 'critic'") as raised:
        open_model(path)
    assert raised.value.hint == "choose: --weights-key actor"
    opened = open_model(path, weights_key="actor")
    assert torch.equal(opened.module[0].weight, agent.actor[0].weight)
    assert opened.info.format == "torch-checkpoint"
    assert inspect(path).opening.way == "with --weights-key"


def test_records_slots_and_nested_places_are_opened_too(save: Save) -> None:
    assert open_model(save(Networks()), weights_key="inner.value").module.out_features == 1
    assert open_model(save(Slotted())).module.out_features == 3
    assert open_model(save({"agents": [Networks()]}), weights_key="agents.0.policy").module.out_features == 2


def test_an_object_whose_names_are_one_module_needs_no_choice(save: Save) -> None:
    shared = nn.Linear(4, 3)
    assert open_model(save({"net": shared, "again": shared})).module.out_features == 3


def test_a_mistyped_place_names_the_one_that_was_meant(save: Save) -> None:
    with pytest.raises(UsageError, match="nothing to open under 'actr'") as raised:
        open_model(save(Agent()), weights_key="actr")
    assert raised.value.hint == "did you mean --weights-key actor? it has 'actor', 'critic'"


def test_a_part_of_a_module_can_be_opened_alone(save: Save) -> None:
    path = save(Agent())
    assert open_model(path, weights_key="actor.0").module.out_features == 3
    with pytest.raises(UsageError, match=r"there is no '7' in 'actor\.7'"):
        open_model(path, weights_key="actor.7")
    deep = save({"net": nn.Sequential(nn.ModuleDict({"body": nn.ModuleDict({"pi": nn.Linear(2, 2)})}))}, "deep.pt")
    with pytest.raises(UsageError, match="there is no 'boody'") as raised:
        open_model(deep, weights_key="net.0.boody.pi")
    assert raised.value.hint.startswith("did you mean --weights-key net.0.body.pi?")
    whole = save(nn.Sequential(nn.Linear(2, 5), nn.ReLU()), "whole.pt")
    assert open_model(whole, weights_key="0").module.out_features == 5


def test_a_trusted_object_is_opened_by_the_same_places(save: Save, call: Any) -> None:
    value = Networks()
    value.inner["odd"] = call(len, "abc")  # a call: it cannot be read without running it
    path = save(value)
    with pytest.raises(TrustError, match=r"builtins\.len"):
        open_model(path, weights_key="policy")
    assert open_model(path, weights_key="policy", trust=Trust(all=True)).module.out_features == 2
    assert open_model(path, weights_key="inner.value", trust=Trust(all=True)).module.out_features == 1


def test_the_tables_of_modules_and_optimizers_are_no_weights(save: Save, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(4, 1)\n")
    agent = Agent()
    agent.critic = {"weight": torch.ones(1, 4), "bias": torch.ones(1)}  # type: ignore[assignment]
    module = open_model(save(agent), arch=f"{tmp_path}/net.py:net").module
    assert torch.equal(module.weight, torch.ones(1, 4))


def test_an_object_without_networks_says_what_it_is(save: Save) -> None:
    agent = Agent()
    del agent.actor, agent.critic, agent.adam
    with pytest.raises(FileError, match=r"holds no weights: it is a tests\.load\.architecture\.test_modules\.Agent"):
        open_model(save(agent))
