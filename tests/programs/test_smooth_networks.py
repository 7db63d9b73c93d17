"""Networks of smooth activations as people build them: every call is a site with the units of its layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.act = nn.LayerNorm(width), nn.GELU()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.down(self.act(self.up(y))).permute(0, 3, 1, 2)


class MobileBlock(nn.Module):
    """An inverted bottleneck of an EfficientNet, with squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 4 * width
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(inplace=True))
        self.squeeze, self.excite = nn.Conv2d(wide, 4, 1), nn.Conv2d(4, wide, 1)
        self.project = nn.Conv2d(wide, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return x + self.project(y)


class GatedFeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(16, 48, bias=False), nn.Linear(16, 48, bias=False)
        self.down = nn.Linear(48, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class LSTMClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head, self.out = nn.LSTM(16, 24, batch_first=True), nn.Linear(24, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.head(self.lstm(x)[0][:, -1])))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 64, activation="gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[tuple[str, int]]]] = {
    "ConvNeXt": (lambda: nn.Sequential(*(ConvNeXtBlock(6) for _ in range(2))), (6, 8, 8), [("gelu", 24)] * 2),
    "ViT": (transformer, (10, 16), [("gelu", 64)] * 2),
    "EfficientNet": (lambda: MobileBlock(6), (6, 8, 8), [("silu", 24), ("silu", 4), ("sigmoid", 24)]),
    "LLaMA": (lambda: nn.Sequential(GatedFeedForward(), GatedFeedForward()), (10, 16), [("silu", 48)] * 2),
    "LSTM": (LSTMClassifier, (12, 16), [("tanh", 32)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_call_is_a_site_and_the_gate_passes(name: str) -> None:
    make, shape, sites = NETWORKS[name]
    torch.manual_seed(0)
    report = deadrelu.scan(make(), torch.randn(64, *shape), max_dead="0%", max_saturated="0%")
    assert [(stats.site.op, stats.site.units) for stats in report.sites] == sites
    assert all(stats.site.feature_axis_by == "producer" for stats in report.sites)
    assert (report.skipped, report.verdict) == ((), "pass")


def test_units_that_a_bias_has_pushed_into_the_tails_are_stuck_on_their_side() -> None:
    torch.manual_seed(0)
    model = LSTMClassifier()
    with torch.no_grad():
        model.head.bias[:2] = torch.tensor([20.0, -20.0])
    (stats,) = deadrelu.scan(model, torch.randn(64, 12, 16)).sites
    assert (stats.dead_units, stats.saturated_units, stats.saturated_high_units) == ((), (0, 1), (0,))
