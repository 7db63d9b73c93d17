"""One network, saved in thirteen ways: the same dead units in every one, site by site."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.load.trust import Trust
from tests.measure.test_exactness import fired, kill

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CODE = '''
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """One ReLU called twice, in place, the second time on a residual sum."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        out = self.conv2(self.relu(self.bn1(self.conv1(x))))
        out += x
        return self.relu(out)


class Net(nn.Module):
    """Module, shared, functional, capped and clamped activations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.fc = nn.Linear(8, 12)
        self.cap = nn.ReLU6()
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x))).mean((2, 3))
        x = self.cap(self.fc(x) * 3)
        return torch.clamp(self.out(x), min=0)
'''
AXES = (1, 1, 1, 1, 1, 1, 1)
IDS = ("stem:relu", "blocks.0.relu#1", "blocks.0.relu#2", "blocks.1.relu#1", "blocks.1.relu#2", "cap", "out:relu")


class Place:
    """Where the ways are saved: the network, its inputs, its folder."""

    def __init__(self, model: nn.Module, inputs: Tensor, folder: Path) -> None:
        self.model, self.inputs, self.folder = model, inputs, folder

    def save(self, value: object, **options: Any) -> Path:
        """With torch.save."""
        torch.save(value, self.folder / "model.pt", **options)
        return self.folder / "model.pt"

    def script(self, script: Any) -> Path:
        """With torch.jit.save."""
        torch.jit.save(script, self.folder / "model.pt")
        return self.folder / "model.pt"

    def export(self, inputs: Tensor, **options: Any) -> Path:
        """With torch.export.save."""
        torch.export.save(torch.export.export(self.model, (inputs,), **options), self.folder / "model.pt2")
        return self.folder / "model.pt2"

    def safetensors(self) -> Path:
        """With safetensors."""
        safetensors.torch.save_file(self.model.state_dict(), self.folder / "model.safetensors")
        return self.folder / "model.safetensors"

    def prefixed(self, prefix: str) -> Path:
        """A state dict with a wrapper's prefix."""
        return self.save({f"{prefix}{key}": value for key, value in self.model.state_dict().items()})


WAYS: dict[str, Callable[[Place], Path]] = {
    "state dict": lambda p: p.save(p.model.state_dict()),
    "legacy state dict": lambda p: p.save(p.model.state_dict(), _use_new_zipfile_serialization=False),
    "DataParallel prefix": lambda p: p.prefixed("module."),
    "torch.compile prefix": lambda p: p.prefixed("_orig_mod."),
    "checkpoint": lambda p: p.save({"epoch": 3, "model_state_dict": p.model.state_dict(), "optimizer": {"lr": 0.1}}),
    "safetensors": lambda p: p.safetensors(),
    "whole module": lambda p: p.save(p.model),
    "fx GraphModule": lambda p: p.save(torch.fx.symbolic_trace(p.model)),
    "scripted": lambda p: p.script(torch.jit.script(p.model)),
    "traced": lambda p: p.script(torch.jit.trace(p.model, p.inputs[:4])),
    "frozen": lambda p: p.script(torch.jit.freeze(torch.jit.script(p.model))),
    "export, any batch": lambda p: p.export(p.inputs[:4], dynamic_shapes=({0: torch.export.Dim.AUTO},)),
    "export, batch of 1": lambda p: p.export(p.inputs[:1]),
}
WEIGHTS = tuple(WAYS)[:6]
LOST_PATHS = ("frozen",)
"""Freezing throws the modules away: the order of the sites is all that is left."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A sick network from code in a file of its own."""
    (tmp_path / "thirteen.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import thirteen  # type: ignore[import-not-found]

    torch.manual_seed(3)
    model = thirteen.Net()
    kill(model, 0.3, seed=4)
    yield Place(model.eval(), torch.randn(11, 3, 10, 10), tmp_path)
    sys.modules.pop("thirteen")


def test_there_are_thirteen_ways() -> None:
    assert len(WAYS) == 13


@pytest.mark.parametrize("way", WAYS)
def test_the_same_units_are_dead_however_the_network_was_saved(way: str, place: Place) -> None:
    expected = fired(place.model, place.inputs.split(4), AXES)
    path = WAYS[way](place)
    report = deadrelu.scan(
        path,
        place.inputs,
        arch=f"{place.folder / 'thirteen.py'}:Net" if way in WEIGHTS else None,
        trust=Trust(all=way not in WEIGHTS),
        batch_size=4,
    )
    assert [s.dead_units for s in report.sites] == [tuple(np.flatnonzero(hits == 0)) for hits in expected]
    assert [[round(rate * s.positions) for rate in s.firing_rate] for s in report.sites] == [
        hits.tolist() for hits in expected
    ]
    assert sum(s.dead for s in report.sites) > 5, "next to nothing was dead, so nothing was tested"
    assert report.skipped == ()
    assert [s.samples for s in report.sites] == [11] * len(AXES)
    if way not in LOST_PATHS:
        assert tuple(s.site.id for s in report.sites) == IDS
