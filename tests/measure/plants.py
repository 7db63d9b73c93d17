"""Networks with units that are dead by construction, each for a cause that is known.

A network is two blocks of a layer, a norm or none, and an activation, and a layer after them. The plants of the first
block are fed by the data, whose features have means far from zero; those of the second by the first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.report import Report, SiteStats
from deadrelu.report.causes import Cause, UnitCause

WIDTH = 24
FEATURES = 8
MEANS = torch.tensor([12.0, -8, 16, 20, 8, -12, 10, -9])

Make = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Kind:
    """A kind of layer with the spatial shape of its inputs; `axis` of its weights holds the units."""

    make: Make
    space: tuple[int, ...] = ()
    axis: int = 0
    groups: int = 1


KINDS = {
    "linear": Kind(nn.Linear),
    "conv1d": Kind(lambda a, b: nn.Conv1d(a, b, 3, padding=1), (9,)),
    "conv2d": Kind(lambda a, b: nn.Conv2d(a, b, 3, padding=1), (6, 6)),
    "conv3d": Kind(lambda a, b: nn.Conv3d(a, b, 2), (4, 4, 4)),
    "grouped": Kind(lambda a, b: nn.Conv2d(a, b, 3, stride=2, padding=1, groups=4), (8, 8), groups=4),
    "transposed": Kind(lambda a, b: nn.ConvTranspose2d(a, b, 3, padding=1), (5, 5), axis=1),
    "transposed-grouped": Kind(lambda a, b: nn.ConvTranspose1d(a, b, 2, stride=2, groups=2), (6,), axis=1, groups=2),
}

NORMS = ("none", "batch", "layer", "group")
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "relu": (nn.ReLU, 0.0, float("inf")),
    "relu6": (nn.ReLU6, 0.0, 6.0),
    "hardswish": (nn.Hardswish, -3.0, float("inf")),
}
"""Each with the edges between which it fires."""

CASES = [(kind, norm) for kind in KINDS for norm in NORMS if norm != "layer" or kind == "linear"]


@dataclass(frozen=True)
class Planted:
    """A network, its inputs, and what was planted at each of its two sites: the cause by unit."""

    model: nn.Sequential
    inputs: Tensor
    causes: tuple[dict[int, Cause], dict[int, Cause]]
    low: float
    high: float


def _norm(name: str, space: Sequence[int]) -> list[nn.Module]:
    batch = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(space)]
    made = {
        "batch": lambda: batch(WIDTH),
        "layer": lambda: nn.LayerNorm(WIDTH),
        "group": lambda: nn.GroupNorm(3, WIDTH),
    }
    return [made[name]()] if name in made else []


def plant(kind_name: str, norm: str, activation: str, seed: int = 0) -> Planted:
    """Build a network of this kind, calibrate its batch norms on its inputs, and plant."""
    torch.manual_seed(seed)
    kind, (make_activation, low, high) = KINDS[kind_name], ACTIVATIONS[activation]
    parts: list[nn.Module] = []
    for features in (FEATURES, WIDTH):
        parts += [kind.make(features, WIDTH), *_norm(norm, kind.space), make_activation()]
    model = nn.Sequential(*parts, kind.make(WIDTH, 4))
    samples = 48 if kind.space else 300
    inputs = torch.randn(samples, FEATURES, *kind.space) + MEANS.view(1, -1, *[1] * len(kind.space))
    for part in model:
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None
    with torch.no_grad():
        model.train()(inputs)
        model.eval()
        size = len(model) // 2
        first = _plant_first(model[:size], kind, norm, inputs, low, high)
        second = _plant_second(model[size:], kind, norm, [u for u, cause in first.items() if cause != "cap"], low)
    return Planted(model, inputs, (first, second), low, high)


def _row(layer: nn.Module, kind: Kind, unit: int) -> Tensor:
    """The weights of one unit, `(inputs of its group, …)`, as a view."""
    weight = layer.weight
    if kind.axis == 0:
        return weight[unit]
    inside, width = WIDTH // kind.groups, len(weight) // kind.groups
    group = unit // inside
    return weight[group * width : (group + 1) * width, unit % inside]


def _plant_first(block: nn.Sequential, kind: Kind, norm: str, x: Tensor, low: float, high: float) -> dict[int, Cause]:
    """Plant in the block that reads the data."""
    layer, causes = block[0], dict[int, Cause]()
    if norm == "none":
        layer.bias[0] = -300.0
        layer.bias[2] = low - 80.0
        _row(layer, kind, 1).mul_(1e-6)
        _row(layer, kind, 3).zero_()
        layer.bias[[1, 3]] = low - 0.3
        causes |= {0: "bias", 1: "weights", 2: "bias", 3: "weights"}
    else:
        scaled = block[1]
        scaled.weight[[0, 1]] = torch.tensor([-1.0, 1e-6])
        scaled.bias[[0, 1]] = torch.tensor([low - 15.0, low - 0.2])
        causes |= {0: "norm", 1: "norm"}
    if norm == "batch":
        scaled = block[1]
        layer.bias[2] -= 500.0
        _row(layer, kind, 3).zero_()
        scaled.running_mean[3], scaled.bias[3] = layer.bias[3], low - 0.2
        causes |= {2: "bias", 3: "weights"}
    if norm in ("none", "batch"):
        _against_the_mean(_row(layer, kind, 4), kind, x, 4)
        layer.bias[4] = 0.01
        causes[4] = "input mean"
    if norm == "batch":
        block[1].running_mean[4], block[1].running_var[4] = 0.0, 1.0
    if high < float("inf"):
        (layer if norm == "none" else block[1]).bias[7] = 400.0 if norm == "none" else 30.0
        causes[7] = "cap"
    return causes


def _against_the_mean(row: Tensor, kind: Kind, x: Tensor, unit: int) -> None:
    """Point the weights of a unit against the mean of what it reads."""
    width = len(row)
    start = unit * kind.groups // WIDTH * width
    mean = x.mean((0, *range(2, x.ndim)))[start : start + width]
    along = (-2 * mean / mean.norm() / row[0].numel()).view(-1, *[1] * (row.ndim - 1))
    row.mul_(0.05).add_(along)


def _plant_second(block: nn.Sequential, kind: Kind, norm: str, dead: list[int], low: float) -> dict[int, Cause]:
    """Plant in the block that reads the first one, of which these units are dead."""
    layer, causes = block[0], dict[int, Cause]()
    width = WIDTH // kind.groups
    row = _row(layer, kind, 0)
    kept = [unit for unit in dead if unit < width]
    row[[place for place in range(width) if place not in kept]] = 0.0
    if norm in ("none", "batch"):
        layer.bias[0] = low - 0.3
        causes[0] = "upstream"
    if norm in ("none", "batch") and low == 0:  # a Hardswish has negative outputs
        row = _row(layer, kind, 1)
        row.copy_(-row.abs() - 0.05)
        layer.bias[1] = -0.1
        causes[1] = "weights"
    if norm == "batch":
        block[1].running_mean[:2], block[1].running_var[:2] = 0.0, 1.0
        block[1].weight[:2], block[1].bias[:2] = 1.0, -0.05
    if norm == "none":
        layer.bias[2] = -3000.0
        causes[2] = "bias"
    return causes


def wrong_wakes(planted: Planted, report: Report) -> list[tuple[str, object, int]]:
    """Apply each change to a copy, count the samples that fire with a hook, and return those that differ."""
    out = []
    names = [name for name, part in planted.model.named_children() if type(part) is type(planted.model[-2])]
    for name, site in zip(names, report.sites, strict=True):
        for cause in site.causes:
            if cause.wakes is None:
                continue
            model = copy.deepcopy(planted.model)
            with torch.no_grad():
                model.get_parameter(cause.wakes.parameter)[cause.unit] += cause.wakes.add
            fired = samples_that_fire(model, name, planted.inputs, cause.unit, planted.low, planted.high)
            if fired != cause.wakes.samples:
                out.append((name, cause, fired))
    return out


def samples_that_fire(model: nn.Module, name: str, x: Tensor, unit: int, low: float, high: float) -> int:
    """On how many samples a unit's pre-activation lies between the edges somewhere."""
    seen: list[Tensor] = []
    module = model.get_submodule(name)
    with module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())), torch.no_grad():
        model(x)
    z = seen[0][:, unit].reshape(len(x), -1)
    return int(((z > low) & (z < high)).any(1).sum())


def scan(planted: Planted) -> Report:
    """The report of a scan of a planted network on its inputs."""
    return deadrelu.scan(planted.model, planted.inputs)


X = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
MAPS = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))


class Written(nn.Module):
    """Parts by name, and a forward that uses them."""

    def __init__(self, forward: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def linear(inputs: int, outputs: int, dead: int | list[int], bias: float = -40.0) -> nn.Linear:
    """A layer of which these units have a bias that keeps them dead."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.bias[dead] = bias
    return layer


def conv(inputs: int, outputs: int, dead: int | list[int], **how: Any) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, **how)
    with torch.no_grad():
        layer.bias[dead] = -40.0
    return layer


def sites_of(model: nn.Module, *batches: Tensor) -> tuple[SiteStats, ...]:
    return tuple(deadrelu.scan(model, list(batches)).sites)


def cause(site: SiteStats, unit: int) -> UnitCause:
    return next(cause for cause in site.causes if cause.unit == unit)
