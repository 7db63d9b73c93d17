"""The scan against a second way of intercepting, unit by unit, on networks as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import deadrelu
from deadrelu.errors import UsageError
from tests.architectures import ARCHITECTURES, Architecture, Axis, Varying

FIRES = {
    "relu": lambda z, _: z > 0,
    "hardtanh": lambda z, a: (z > (a[0] if a else -1)) & (z < (a[1] if len(a) > 1 else 1)),
    "clamp": lambda z, a: (z > a[0]) & (z < (a[1] if len(a) > 1 else math.inf)),
    "clamp_min": lambda z, a: z > a[0],
    "threshold": lambda z, a: z > a[0],
    "hardswish": lambda z, _: z > -3,
    "hardsigmoid": lambda z, _: (z > -3) & (z < 3),
}


class Oracle(TorchDispatchMode):
    """Keeps a numpy copy of what every relu-like operator is given, call by call: no hook, no tally, no naming."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, np.ndarray[Any, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in FIRES and not kwargs:
            numbers = [float(a) for a in args[1:] if isinstance(a, (int, float)) and not isinstance(a, bool)]
            if not name.startswith("clamp") or numbers[:1] == [0.0]:
                self.calls.append((name, FIRES[name](args[0].detach().numpy().astype(np.float64), numbers)))
        return func(*args, **(kwargs or {}))


def fired(model: nn.Module, batches: Sequence[Tensor], axes: Sequence[Axis]) -> list[np.ndarray[Any, Any]]:
    """For each activation call, in the order of execution, at how many positions of all batches each unit fired."""
    totals: list[Any] = [0] * len(axes)
    model.eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for batch in batches:
            with torch.no_grad(), Oracle() as oracle:
                model(batch.clone())
            assert len(oracle.calls) == len(axes)
            for i, ((_, hits), axis) in enumerate(zip(oracle.calls, axes, strict=True)):
                kept = (axis,) if isinstance(axis, int) else axis
                rest = tuple(d for d in range(hits.ndim) if d not in kept)
                totals[i] = totals[i] + hits.sum(rest).reshape(-1)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return totals


def kill(model: nn.Module, share: float, seed: int) -> None:
    """Push a random share of the units of every layer far below zero, and some just below; without a bias, to zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and parameter.ndim == 1:
                dead = torch.rand(len(parameter), generator=generator) < share
                parameter[dead] = torch.where(torch.rand(int(dead.sum()), generator=generator) < 0.5, -1e3, -2.0)
        for layer in model.modules():
            if isinstance(layer, nn.Linear) and layer.bias is None:
                layer.weight[torch.rand(len(layer.weight), generator=generator) < share] = 0


@pytest.mark.parametrize("batch_size", [1, 5, 16])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_unit_fires_as_often_as_a_dispatch_mode_counts(name: str, batch_size: int) -> None:
    architecture: Architecture = ARCHITECTURES[name]
    torch.manual_seed(1)
    model = architecture.make()
    kill(model, 0.3, seed=2)
    inputs = architecture.inputs(21, seed=3)
    expected = fired(model, inputs.split(batch_size), architecture.axes)

    report = deadrelu.scan(model, inputs, batch_size=batch_size)

    assert [s.site.units for s in report.sites] == [len(hits) for hits in expected]
    for stats, hits in zip(report.sites, expected, strict=True):
        assert [round(rate * stats.positions) for rate in stats.firing_rate] == hits.tolist(), stats.site.id
        assert stats.dead_units == tuple(np.flatnonzero(hits == 0)), stats.site.id
        assert stats.samples == 21
    assert report.skipped == ()
    assert sum(s.dead for s in report.sites) > 0, "nothing was dead, so nothing was tested"


@pytest.mark.parametrize("name", ["resnet", "vgg", "unet", "convnext", "temporal"])
def test_channels_last_inputs_and_weights_count_the_same(name: str) -> None:
    architecture = ARCHITECTURES[name]
    torch.manual_seed(1)
    model = architecture.make()
    kill(model, 0.3, seed=2)
    inputs = architecture.inputs(8, seed=3)
    plain = deadrelu.scan(model, inputs)
    if inputs.ndim == 4:
        model, inputs = model.to(memory_format=torch.channels_last), inputs.to(memory_format=torch.channels_last)
    else:
        inputs = inputs.transpose(1, 2).contiguous().transpose(1, 2)
    other = deadrelu.scan(model, inputs)
    assert [s.dead_units for s in other.sites] == [s.dead_units for s in plain.sites]
    assert [s.site for s in other.sites] == [s.site for s in plain.sites]


def test_planted_dead_units_are_found_one_by_one() -> None:
    """Each unit of each layer in turn is silenced by its bias, and nothing else is reported."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 2))
    inputs = torch.randn(400, 6)
    with torch.no_grad():
        for layer in (0, 2):
            nn.init.orthogonal_(model[layer].weight)
    assert [s.dead_units for s in deadrelu.scan(model, inputs).sites] == [(), ()]
    for layer, units in ((0, 12), (2, 9)):
        for unit in range(units):
            bias = model[layer].bias.data.clone()
            model[layer].bias.data[unit] = -1e4
            found = {s.site.module: s.dead_units for s in deadrelu.scan(model, inputs).sites}
            assert found[str(layer + 1)] == (unit,)
            model[layer].bias.data = bias


def test_the_share_of_silent_units_follows_the_closed_form() -> None:
    """Orthonormal weights on Gaussian samples make units independent: silent with probability Φ(−b)^n."""
    torch.manual_seed(0)
    width, bias, n = 512, -2.0, 100
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.qr(torch.randn(width, width))[0])
        layer.bias.fill_(bias)
    silent = 0
    rounds = 8
    for seed in range(rounds):
        data = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
        silent += deadrelu.scan(nn.Sequential(layer, nn.ReLU()), data).summary.dead
    p = NormalDist().cdf(-bias) ** n
    spread = math.sqrt(rounds * width * p * (1 - p))
    assert abs(silent - rounds * width * p) < 4 * spread


def test_a_number_of_calls_that_varies_with_the_data_is_counted_call_by_call() -> None:
    torch.manual_seed(0)
    model = Varying()
    with torch.no_grad():
        model.fc.weight.copy_(torch.eye(6))
        model.fc.bias.zero_()
    low, high = torch.full((3, 6), 0.1), torch.full((5, 6), 1.0)
    report = deadrelu.scan(model, [low, low, high, low])
    first, second = report.sites
    assert (first.site.id, second.site.id) == ("act#1", "act#2")
    assert (first.samples, second.samples) == (14, 5)
    assert first.positions == 14
    assert second.positions == 5


@pytest.mark.parametrize("steps", [1, 4])
def test_a_relu_recurrence_is_counted_over_its_steps_layer_by_layer(steps: int) -> None:
    """The closed recurrence, written out in numpy."""
    torch.manual_seed(0)
    rnn = nn.RNN(3, 6, num_layers=2, nonlinearity="relu", batch_first=True, bidirectional=True)
    x = torch.randn(10, steps, 3)
    expected = []
    below = x.numpy().astype(np.float64)
    for layer in range(2):
        outputs = []
        for suffix in ("", "_reverse"):
            w, u, b, c = (
                getattr(rnn, f"{name}_l{layer}{suffix}").detach().numpy().astype(np.float64)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, hits, states = np.zeros((10, 6)), np.zeros(6), []
            for t in range(steps) if not suffix else reversed(range(steps)):
                h = np.maximum(below[:, t] @ w.T + b + h @ u.T + c, 0)
                hits += (h > 0).sum(0)
                states.append(h)
            expected.append(hits)
            outputs.append(np.stack(states if not suffix else states[::-1], 1))
        below = np.concatenate(outputs, 2)
    report = deadrelu.scan(nn.Sequential(rnn), x)
    assert [s.site.id for s in report.sites] == [f"0:relu#{i}" for i in (1, 2, 3, 4)]
    for stats, hits in zip(report.sites, expected, strict=True):
        assert [round(rate * stats.positions) for rate in stats.firing_rate] == hits.tolist()


def test_a_shape_names_the_samples_the_units_and_the_sizes_that_vary() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU()
    )
    batches = [torch.randn(6, 3, 8), torch.randn(2, 3, 8)]
    assert [stats.site.shape for stats in deadrelu.scan(model, batches).sites] == [("N", 4, 8), ("N", 5)]
    batches += [torch.randn(6, 3, 9)]
    assert [stats.site.shape for stats in deadrelu.scan(model, batches).sites] == [("N", 4, "*"), ("N", 5)]


def test_an_axis_for_a_site_that_is_not_there_is_refused_as_it_was_written() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(8, 3)
    for axis, written in ((None, "none"), (1, "1")):
        with pytest.raises(UsageError, match=f"--feature-axis gone={written}: no site matches"):
            deadrelu.scan(model, x, feature_axes={"gone": axis})
