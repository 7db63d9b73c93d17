"""The table of activation kinds is the only place that a new kind has to be entered, and its entries hold for torch."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deadrelu.activations import ACTIVATIONS, KINDS, REPLACEMENTS, Activation, Leak

PACKAGE = Path(__file__).parents[1] / "deadrelu"

ENTRY = """
    Activation(
        name="shifted_relu",
        module="ShiftedReLU",
        defaults={"edge": 1.0},
        inplace=False,
        region=lambda p: Region(p[0]),
        replacements=("silu",),
    ),
"""

SCAN = """
import torch
import torch.nn.functional as F
from torch import nn

def shifted_relu(x, edge=1.0):
    if torch.overrides.has_torch_function_unary(x):
        return torch.overrides.handle_torch_function(shifted_relu, (x,), x, edge=edge)
    return torch.where(x > edge, x - edge, torch.zeros_like(x))

class ShiftedReLU(nn.Module):
    edge = 2.0
    def forward(self, x):
        return F.shifted_relu(x, self.edge)

F.shifted_relu, nn.ShiftedReLU = shifted_relu, ShiftedReLU

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(4, 3), nn.ShiftedReLU()
    def forward(self, x):
        return F.shifted_relu(self.act(self.fc(x)), edge=0.5)

import deadrelu
torch.manual_seed(0)
model, x = Net(), torch.randn(64, 4) * 3
with torch.no_grad():
    z = model.fc(x)
    fires = [(z > 2).float().mean(0).tolist(), (shifted_relu(z, 2.0) > 0.5).float().mean(0).tolist()]
report = deadrelu.scan(model, x, stats="rates")
assert [(s.site.id, s.site.op) for s in report.sites] == [("act", "shifted_relu"), ("fc:shifted_relu", "shifted_relu")]
assert [list(s.firing_rate) for s in report.sites] == fires, (report.sites, fires)
"""


def test_a_made_up_kind_takes_one_entry_in_the_table(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "deadrelu", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "deadrelu" / "activations.py"
    head, start, tail = table.read_text().partition("ACTIVATIONS: tuple[Activation, ...] = (")
    table.write_text(head + start + ENTRY + tail)
    done = subprocess.run([sys.executable, "-c", SCAN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_entry_is_as_torch_has_it(kind: Activation | Leak) -> None:
    module = getattr(nn, kind.module)
    assert f"{module.__module__}.{module.__qualname__}" == kind.module_path
    parameters = inspect.signature(module).parameters
    assert ("inplace" in parameters) == kind.inplace
    assert kind.slope is None or kind.slope in parameters
    assert any(hasattr(torch.ops.aten, operator) for operator in kind.operators)
    assert callable(getattr(F, kind.name))
    for name, default in kind.defaults.items():
        if default is not None and parameters[name].default is not inspect.Parameter.empty:
            assert parameters[name].default == default


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.name)
def test_a_unit_fires_where_the_gradient_is_not_zero(kind: Activation) -> None:
    """Against autograd, at and around every kink, at its default parameters."""
    parameters = [value for value in kind.defaults.values() if value is not None]
    region = kind.region(parameters)
    points = [region.low, region.high, -100.0, -7.5, -0.1, 0.0, 0.1, 2.0, 100.0]
    z = torch.tensor([p for p in points if abs(p) < torch.inf], dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(getattr(F, kind.name)(z, *parameters).sum(), [z])
    inside = (z > region.low) & (z < region.high)
    fires = (z < region.low) | (z > region.high) if region.outside else inside
    assert fires.tolist() == (gradient != 0).tolist()


@pytest.mark.parametrize("kind", [kind for kind in ACTIVATIONS if kind.cap], ids=lambda kind: kind.name)
def test_a_cap_is_the_largest_output(kind: Activation) -> None:
    parameters = [value for value in kind.defaults.values() if value is not None]
    assert kind.cap is not None
    assert getattr(F, kind.name)(torch.tensor(1e6), *parameters).item() == kind.cap(parameters)


def test_every_replacement_has_an_entry_and_some_kind_that_it_may_replace() -> None:
    assert all(name == kind.name for name, kind in REPLACEMENTS.items())
    assert set(REPLACEMENTS) == {name for kind in ACTIVATIONS for name in kind.replacements}
