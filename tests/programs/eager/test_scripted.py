"""Scripted code inside of a live model is seen from its first call on, whenever that comes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.programs.eager.scripted import can_call_script


def _activated(x: Tensor) -> Tensor:
    return torch.relu(x)


scripted = torch.jit.script(_activated)


def by_way_of_another(x: Tensor) -> Tensor:
    return scripted(x) + 1


class Methods:
    """Calls it from a static method."""

    @staticmethod
    def call(x: Tensor) -> Tensor:
        return scripted(x)


class Late(nn.Module):
    """Calls something from the eleventh batch on."""

    def __init__(self, call: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.fc, self.number, self.held = nn.Linear(4, 6), 0, {"one": call}

    def late(self, x: Tensor) -> Tensor:
        call = self.held["one"]
        return x if call is None else call(x)

    def forward(self, x: Tensor) -> Tensor:
        self.number += 1
        x = self.fc(x)
        return self.late(x) if self.number > 10 else x


class Named(Late):
    def late(self, x: Tensor) -> Tensor:
        return by_way_of_another(x)


class OfAClass(Late):
    def late(self, x: Tensor) -> Tensor:
        return Methods.call(x)


class Enclosed(Late):
    def late(self, x: Tensor) -> Tensor:
        return [(lambda y: scripted(y))(x)][0]


class Submodule(Late):
    def __init__(self) -> None:
        super().__init__()
        self.act = torch.jit.script(nn.ReLU())

    def late(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x)
        return y


class Operator(Late):
    def late(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten.relu(x)
        return y


@pytest.mark.parametrize(
    "make", [lambda: Late(scripted), lambda: Late(by_way_of_another), Named, OfAClass, Enclosed, Submodule, Operator]
)
def test_what_is_first_called_late_is_measured_whole(make: Callable[[], nn.Module]) -> None:
    (stats,) = deadrelu.scan(make(), torch.randn(120, 4), batch_size=3).sites
    assert (stats.samples, stats.positions) == (90, 90)


class Unforeseen(Late):
    """Makes what it calls while it runs, so that nothing names it."""

    def late(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(__import__(__name__, fromlist=["x"]), "script" + "ed")(x)
        return y


def test_what_could_not_be_foreseen_says_on_how_many_samples_it_was_measured(caplog: pytest.LogCaptureFixture) -> None:
    (stats,) = deadrelu.scan(Unforeseen(), torch.randn(120, 4), batch_size=3).sites
    assert stats.samples == 75
    assert caplog.messages == [
        ":relu was first seen in batch 16 and is counted from there on; it may have run before, unseen"
    ]


def test_it_is_not_said_of_what_was_there_from_the_first_batch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deadrelu"):
        deadrelu.scan(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(120, 4), batch_size=3)
    assert not any("first seen" in message for message in caplog.messages)


def test_an_ordinary_model_is_not_taken_to_call_scripted_code() -> None:
    assert not can_call_script([Late(), nn.Sequential(nn.Linear(1, 1), nn.ReLU())])
    assert can_call_script([Late(scripted)])


class Unreachable:
    """As a module that is imported when it is first used, and cannot be."""

    def __getattr__(self, name: str) -> object:
        raise ImportError(f"{name} is of a package that is not installed")


LAZY = Unreachable()


class NamesLazily(nn.Module):
    """Its forward names an object that raises when it is asked for anything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if LAZY is not None else x


def test_an_object_that_raises_for_every_attribute_is_passed_by() -> None:
    assert deadrelu.scan(NamesLazily(), torch.randn(8, 4), feature_axes={"*": 1}).summary.sites == 1


class Recurrent(nn.Module):
    """A recurrent layer, whose gates are sigmoids and tanhs, and perhaps a tanh of the user's behind it."""

    __constants__ = ("has_tanh",)

    def __init__(self, layer: nn.Module, has_tanh: bool) -> None:
        super().__init__()
        self.layer, self.head, self.has_tanh = layer, nn.Linear(6, 4), has_tanh

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.layer(x))
        return torch.tanh(y) if self.has_tanh else y


@pytest.mark.parametrize("way", [torch.jit.script, lambda model: torch.jit.trace(model, torch.randn(3, 5))])
@pytest.mark.parametrize("has_tanh", [False, True])
def test_an_activation_that_looks_like_a_gate_is_skipped_with_its_reason(
    has_tanh: bool, way: Callable[[nn.Module], nn.Module]
) -> None:
    model = nn.Sequential(way(Recurrent(nn.GRUCell(5, 6), has_tanh).eval()), nn.ReLU())
    report = deadrelu.scan(model, torch.randn(40, 5))
    assert [stats.site.id for stats in report.sites] == ["1"]
    assert [skipped.id for skipped in report.skipped] == (["0:tanh"] if has_tanh else [])
    assert all("cannot be told apart" in skipped.reason for skipped in report.skipped)
