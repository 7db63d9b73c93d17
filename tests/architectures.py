"""Networks as people write them, each with the feature axes of its activation calls written down by hand.

`axes` lists, in the order of execution, the dimension that tells units apart (dimensions, where there are heads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axis = int | tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """A network, what it takes, and where the features of each of its activation calls lie."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    axes: Sequence[Axis]
    vocabulary: int | None = None

    def inputs(self, samples: int, seed: int) -> Tensor:
        """Standard normal numbers, or indices below `vocabulary`."""
        generator = torch.Generator().manual_seed(seed)
        if self.vocabulary:
            return torch.randint(self.vocabulary, (samples, *self.shape), generator=generator)
        return torch.randn(samples, *self.shape, generator=generator)


class BasicBlock(nn.Module):
    """ResNet's block: one in-place ReLU object called twice, the second time on a residual sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    """A stem, two blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(8), BasicBlock(8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.layer1(self.relu(self.stem(x)))).flatten(1))


class DenseLayer(nn.Module):
    """DenseNet: norm, functional ReLU, convolution, concatenation."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x), inplace=True))], 1)


class Inception(nn.Module):
    """Branches with functional ReLUs, concatenated; the ReLU of the sum is the function's other spelling."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.three = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.Conv2d(3, 5, 1)
        self.fc = nn.Linear(15, 6)

    def forward(self, x: Tensor) -> Tensor:
        branches = [F.relu(self.one(x)), torch.relu(self.three(x)), self.pool(F.max_pool2d(x, 3, 1, 1)).relu_()]
        return self.fc(torch.cat(branches, 1).mean((2, 3))).clamp(min=0)


class InvertedResidual(nn.Module):
    """MobileNet's block: ReLU6 around a depthwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels * 3
        self.conv = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class SqueezeExcite(nn.Module):
    """MobileNetV3: a gate of ReLU and hardsigmoid on pooled features, then a hardswish."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.fc2 = nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        scale = F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))) * 4)
        return F.hardswish(x * scale * 4)


class OptLayer(nn.Module):
    """OPT's feed-forward: flattened to (N·T, F) before the layers, unflattened after."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.fc1 = nn.Linear(12, 24)
        self.fc2 = nn.Linear(24, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.embed(ids))
        flat = x.reshape(-1, x.size(-1))
        return (flat + self.fc2(F.relu(self.fc1(flat)))).view(x.shape)


class T5FeedForward(nn.Module):
    """T5's feed-forward, whose ReLU object two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.act = nn.ReLU()
        self.wi = nn.ModuleList(nn.Linear(12, 20, bias=False) for _ in range(2))
        self.wo = nn.ModuleList(nn.Linear(20, 12, bias=False) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for wi, wo in zip(self.wi, self.wo, strict=True):
            x = x + wo(self.act(wi(x)))
        return x


class ChannelShuffle(nn.Module):
    """ShuffleNet: the channels are split into groups, transposed and merged, then rectified."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 1)
        self.conv2 = nn.Conv2d(12, 12, 3, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        n, c, h, w = x.shape
        x = F.relu(x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w))
        a, b = self.conv2(x).chunk(2, dim=1)
        return torch.cat([F.relu(a), b], 1)


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out = nn.Conv2d(11, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        up = torch.clamp_min(self.up(F.threshold(self.down(x), 0.0, 0.0)), 0)
        return torch.clamp(self.out(torch.cat([up, x], 1)), 0, 6)


class Mixer(nn.Module):
    """MLP-Mixer with ReLUs: tokens are mixed over a transposed tensor, where the tokens are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 10, 4, stride=4)
        self.tokens = nn.Linear(4, 7)
        self.back = nn.Linear(7, 4)
        self.channels = nn.Linear(10, 14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.back(F.relu(self.tokens(x.transpose(1, 2)))).transpose(1, 2)
        return F.relu(self.channels(x))


class ConvNeXt(nn.Module):
    """Channels last for the linear layers, permuted back before the residual sum is rectified."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.LayerNorm(6)
        self.wide = nn.Linear(6, 18)
        self.narrow = nn.Linear(18, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(F.relu(self.wide(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        return F.relu(x + y.permute(0, 3, 1, 2))


class ReluAttention(nn.Module):
    """EfficientViT's linear attention: ReLU on queries and keys whose channels are split into heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(3, 2 * 3 * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.qkv(x).view(n, 2, 12, h * w).split(4, dim=2)
        return (F.relu(q) @ F.relu(k).transpose(-1, -2)) @ v


class Scripted(nn.Module):
    """A scripted submodule, which neither hooks nor functions see."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.jit.script(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU()))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) - 0.1)


class Varying(nn.Module):
    """Runs its block once more for each batch whose mean is above zero: the number of calls depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc(x))
        return self.act(self.fc(x)) if x.mean() > 0.25 else x


class RecurrentHead(nn.Module):
    """A two-layer ReLU RNN, and a ReLU on its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(5, 7, num_layers=2, nonlinearity="relu", batch_first=True)
        self.fc = nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(self.rnn(x)[0][:, -1]))


def _vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 5 * 5, 16), nn.ReLU(inplace=True),
    )  # fmt: skip


def _temporal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 9, 3), nn.ReLU(), nn.Conv1d(9, 6, 3, dilation=2), nn.GroupNorm(2, 6), nn.Hardtanh(0, 1)
    )


class Bottleneck(nn.Module):
    """ResNet-50's block: one in-place ReLU object called three times, the last time with more channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(channels, width * 2, 1, bias=False), nn.BatchNorm2d(width * 2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.downsample(x)
        return self.relu(out)


def _bottlenecks() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)]
    return nn.Sequential(Bottleneck(3, 4), Bottleneck(8, 6), *head)


def _alexnet() -> nn.Module:
    features = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3)]
    classifier = [nn.Dropout(), nn.Linear(12, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 4)]
    return nn.Sequential(*features, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *classifier)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 20, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def _dense() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), DenseLayer(4, 3), DenseLayer(7, 3))


ARCHITECTURES = {
    "resnet": Architecture(ResNet, (3, 16, 16), [1] * 5),
    "densenet": Architecture(_dense, (3, 8, 8), [1, 1]),
    "inception": Architecture(Inception, (3, 8, 8), [1, 1, 1, 1]),
    "mobilenet": Architecture(lambda: nn.Sequential(InvertedResidual(3), InvertedResidual(3)), (3, 8, 8), [1] * 4),
    "squeeze-excite": Architecture(lambda: SqueezeExcite(10), (3, 8, 8), [1, 1, 1]),
    "vgg": Architecture(_vgg, (3, 16, 16), [1, 1, 1]),
    "encoder": Architecture(_encoder, (6, 8), [2, 2]),
    "opt": Architecture(OptLayer, (6,), [1], vocabulary=50),
    "t5": Architecture(T5FeedForward, (6,), [2, 2], vocabulary=50),
    "channel shuffle": Architecture(ChannelShuffle, (3, 6, 6), [1, 1]),
    "unet": Architecture(UNet, (3, 8, 8), [1, 1, 1]),
    "temporal": Architecture(_temporal, (4, 12), [1, 1]),
    "volume": Architecture(lambda: nn.Sequential(nn.Conv3d(2, 12, 3), nn.ReLU()), (2, 5, 5, 5), [1]),
    "mixer": Architecture(Mixer, (3, 8, 8), [2, 2]),
    "convnext": Architecture(ConvNeXt, (6, 6, 6), [3, 1]),
    "relu attention": Architecture(ReluAttention, (3, 4, 4), [(1, 2), (1, 2)]),
    "scripted": Architecture(Scripted, (6,), [1, 1, 1]),
    "recurrent head": Architecture(RecurrentHead, (1, 5), [1, 1, 1]),
    "bottleneck": Architecture(_bottlenecks, (3, 6, 6), [1] * 6),
    "alexnet": Architecture(_alexnet, (3, 16, 16), [1, 1, 1]),
}
