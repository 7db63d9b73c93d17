"""Every kind of activation, in every form of a model: dead and saturated units against a recount in float64 numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.load.trust import Trust

LIMIT = 0.01
CENTRES = (-40.0, -9.5, -4.7, -3.2, -1.0, 0.0, 1.0, 3.2, 4.7, 9.5, 40.0)
"""Where the values of each planted unit lie, within a tenth: on either side of the flat parts of every kind."""


def logistic(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def normal(z: np.ndarray) -> np.ndarray:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def phi(z: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)(z)


def mish(z: np.ndarray) -> np.ndarray:
    t = np.tanh(np.logaddexp(0, z))
    return t + z * (1 - t * t) * logistic(z)


Slope = Callable[[np.ndarray], np.ndarray]
KINDS: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], Slope]] = {
    "relu": (nn.ReLU(), F.relu, lambda z: z > 0),
    "relu6": (nn.ReLU6(), F.relu6, lambda z: (z > 0) & (z < 6)),
    "hardtanh": (nn.Hardtanh(), F.hardtanh, lambda z: np.abs(z) < 1),
    "hardsigmoid": (nn.Hardsigmoid(), F.hardsigmoid, lambda z: (np.abs(z) < 3) / 6),
    "leaky_relu": (nn.LeakyReLU(), F.leaky_relu, lambda z: np.where(z > 0, 1, 0.01)),
    "prelu": (
        nn.PReLU(init=0.005),
        lambda x: F.prelu(x, torch.full((1,), 0.005)),
        lambda z: np.where(z > 0, 1, 0.005),
    ),
    "rrelu": (nn.RReLU(0.001, 0.009), lambda x: F.rrelu(x, 0.001, 0.009), lambda z: np.where(z > 0, 1, 0.005)),
    "elu": (nn.ELU(), F.elu, lambda z: np.exp(np.minimum(z, 0))),
    "selu": (nn.SELU(), F.selu, lambda z: 1.0507009873554805 * np.where(z > 0, 1, 1.6732632423543772 * np.exp(z))),
    "celu": (nn.CELU(2.0), lambda x: F.celu(x, 2.0), lambda z: np.exp(np.minimum(z, 0) / 2)),
    "gelu": (nn.GELU(), F.gelu, lambda z: phi(z) + z * normal(z)),
    "silu": (nn.SiLU(), F.silu, lambda z: logistic(z) * (1 + z * logistic(-z))),
    "mish": (nn.Mish(), F.mish, mish),
    "softplus": (nn.Softplus(), F.softplus, logistic),
    "logsigmoid": (nn.LogSigmoid(), F.logsigmoid, lambda z: logistic(-z)),
    "sigmoid": (nn.Sigmoid(), torch.sigmoid, lambda z: logistic(z) * logistic(-z)),
    "tanh": (nn.Tanh(), torch.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "softsign": (nn.Softsign(), F.softsign, lambda z: 1 / (1 + np.abs(z)) ** 2),
    "tanhshrink": (nn.Tanhshrink(), F.tanhshrink, lambda z: np.tanh(z) ** 2),
    "glu": (nn.GLU(1), lambda x: F.glu(x, 1), lambda z: logistic(z) * logistic(-z)),
}
RECTIFIERS = ("relu", "relu6", "hardtanh", "hardsigmoid")


class Applies(nn.Module):
    """A layer, and a function of its output."""

    def __init__(self, layer: nn.Linear, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def planted(kind: str) -> nn.Linear:
    """A layer whose units lie near the centres, the last one on both sides; before a gate that has half of them."""
    layer = nn.Linear(2, len(CENTRES) + 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = 0.1
        layer.weight[-1, 0] = 40.0
        layer.bias.copy_(torch.tensor([*CENTRES, 0.0]))
        if kind == "glu":
            layer.weight, layer.bias = (nn.Parameter(torch.cat([p, p])) for p in (layer.weight, layer.bias))
            layer.out_features *= 2
    return layer


def expected(z: np.ndarray, kind: str) -> tuple[list[int], list[int], list[int]]:
    """The units that are dead, saturated, and saturated on the high side."""
    slope = KINDS[kind][2](z)
    flat = (np.abs(slope) <= LIMIT).all(0)
    if kind in ("gelu", "silu", "mish"):  # they are flat in the tail below, and not where they turn
        flat &= (z < -3).all(0)
    if kind == "tanhshrink":  # flat around zero only
        flat &= (np.abs(z) < 1).all(0)
    dead = (slope == 0).all(0) if kind in RECTIFIERS else np.zeros(len(flat), bool)
    saturated = flat & ~dead
    high = saturated & (z > 1).all(0)
    return tuple(np.flatnonzero(units).tolist() for units in (dead, saturated, high))  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["module", "functional", "scripted", "exported"])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_units_are_dead_or_saturated_as_numpy_counts(kind: str, form: str, tmp_path: Path) -> None:
    module, function, _ = KINDS[kind]
    layer = planted(kind)
    x = torch.rand(32, 2) * 2 - 1
    model: nn.Module = Applies(layer, function) if form == "functional" else nn.Sequential(layer, module)
    path: Path | None = None
    if form == "scripted":
        path = tmp_path / "model.pt"
        torch.jit.script(model.eval()).save(str(path))
    elif form == "exported":
        path = tmp_path / "model.pt2"
        torch.export.save(
            torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},)), path
        )
    report = deadrelu.scan(path or model, x, batch_size=16, trust=Trust(all=True))
    (stats,) = report.sites
    with torch.no_grad():
        z = layer.double()(x.double()).numpy()
    z = z[:, z.shape[1] // 2 :] if kind == "glu" else z
    assert stats.site.op == kind
    found = (stats.dead_units, stats.saturated_units, stats.saturated_high_units)
    assert tuple(map(list, found)) == expected(z, kind)
    np.testing.assert_allclose(np.array(stats.min_preactivation, float), z.min(0), atol=1e-4)
