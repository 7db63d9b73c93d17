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

from deadrelu.activations import ACTIVATIONS, BY_NAME, REPLACEMENTS, Activation
from deadrelu.measure.firing import activate

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


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.name)
def test_an_entry_is_as_torch_has_it(kind: Activation) -> None:
    module = getattr(nn, kind.module)
    assert f"{module.__module__}.{module.__qualname__}" == kind.module_path
    parameters = inspect.signature(module).parameters
    assert ("inplace" in parameters) == kind.inplace
    assert kind.slope is None or kind.slope in parameters
    if kind.name not in ("softsign", "tanhshrink"):  # which torch makes of several operators
        assert any(hasattr(torch.ops.aten, operator) for operator in kind.operators)
    assert callable(getattr(F, kind.name))
    for name, default in kind.defaults.items():
        if default is not None and parameters[name].default is not inspect.Parameter.empty:
            assert parameters[name].default == default


RECTIFIERS = [kind for kind in ACTIVATIONS if kind.region is not None]


@pytest.mark.parametrize("kind", RECTIFIERS, ids=lambda kind: kind.name)
def test_a_unit_fires_where_the_gradient_is_not_zero(kind: Activation) -> None:
    """Against autograd, at and around every kink, at its default parameters."""
    parameters = [value for value in kind.defaults.values() if value is not None]
    assert kind.region is not None
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


GIVEN = {"prelu": [(0.25,), (-2.0,), (0.0,)], "leaky_relu": [(0.01,), (0.3,)], "elu": [(1.0,), (0.3,), (-2.0,)]}
GIVEN |= {"celu": [(1.0,), (40.0,)], "gelu": [("none",), ("tanh",)], "softplus": [(1.0, 20.0), (0.1, 5.0), (3.0, 20.0)]}
GIVEN |= {"hardtanh": [(-1.0, 1.0), (0.5, 9.0)], "threshold": [(0.0, 0.0), (0.5, -3.0)], "rrelu": [(0.1, 0.3)]}
GIVEN |= {"hardshrink": [(0.5,), (2.0,)], "softshrink": [(0.5,), (2.0,)]}
CASES = [(kind, given) for kind in ACTIVATIONS for given in GIVEN.get(kind.name, [()])]


def slopes(kind: Activation, given: tuple[float | str, ...], z: torch.Tensor) -> torch.Tensor:
    """The derivative by autograd, in float64."""
    x = z.double().requires_grad_()
    (gradient,) = torch.autograd.grad(activate(x, kind.name, given).sum(), [x])
    return gradient


@pytest.mark.parametrize(("kind", "given"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_a_derivative_is_that_of_autograd(kind: Activation, given: tuple[float | str, ...]) -> None:
    kinks = [0.0, *(value for value in given if isinstance(value, float))]
    z = torch.cat([torch.linspace(-60, 60, 4801, dtype=torch.float64) + 1e-4, torch.tensor(kinks).double()])
    ours = torch.tensor([kind.derivative(value, given) for value in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours, slopes(kind, given, z), rtol=1e-7, atol=1e-12)  # torch has 1/6 in float32


@pytest.mark.parametrize("below", [1e-6, 0.001, 0.01, 0.1])
@pytest.mark.parametrize(("kind", "given"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_a_flat_part_ends_where_autograd_says(kind: Activation, given: tuple[float | str, ...], below: float) -> None:
    """From either end the slope is small up to the edge, and larger just beyond it; what crosses zero is not flat."""
    if kind.region is not None:
        return
    region = kind.firing(given, below)
    z = torch.linspace(-2000, 2000, 400_001, dtype=torch.float64) + 1e-5
    small = slopes(kind, given, z).abs() <= below
    low, high = region.low, region.high
    if region.outside:
        assert bool(small[(z >= low) & (z <= high)].all())
        edges = [(low, -1), (high, 1)]
    else:
        assert bool(small[(z <= low) | (z >= high)].all())
        edges = [(edge, side) for edge, side in ((low, 1), (high, -1)) if abs(edge) < torch.inf]
        assert abs(low) < torch.inf or not small[0]
        assert abs(high) < torch.inf or not small[-1]
    for edge, outwards in edges:
        step = max(abs(edge) * 1e-7, 1e-12)
        beside = torch.tensor([edge - outwards * step, edge + outwards * step], dtype=torch.float64)
        if edge:
            assert (slopes(kind, given, beside).abs() <= below).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "given", "low", "high"),
    [
        ("sigmoid", (), -4.585, 4.585),
        ("tanh", (), -2.993, 2.993),
        ("softsign", (), -9.0, 9.0),
        ("elu", (1.0,), -4.605, torch.inf),
        ("leaky_relu", (0.01,), 0.0, torch.inf),
        ("leaky_relu", (0.02,), -torch.inf, torch.inf),
        ("logsigmoid", (), -torch.inf, 4.595),
    ],
)
def test_the_edges_of_common_kinds_are_the_known_ones(
    name: str, given: tuple[float, ...], low: float, high: float
) -> None:
    region = BY_NAME[name].firing(given, 0.01)
    assert (region.low, region.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


def test_kinds_that_cross_a_zero_of_their_slope_are_flat_in_the_tail_alone() -> None:
    for name, given, crossing in (("gelu", ("none",), -0.7518), ("silu", (), -1.2785), ("mish", (), -1.1924)):
        kind = BY_NAME[name]
        assert abs(kind.derivative(crossing, given)) < 1e-4
        assert crossing in kind.firing(given, 0.01)
        assert -30.0 not in kind.firing(given, 0.01)
