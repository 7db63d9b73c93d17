"""The networks on which the cost of a scan is measured, at random initialisation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network, the shape of its batches, and how many batches make one measurement."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batches: int

    def model(self) -> nn.Module:
        """The network for inference, the same each time."""
        torch.manual_seed(0)
        return self.make().eval()

    def stream(self, batches: int) -> Iterator[Tensor]:
        """Standard normal batches, one at a time, the same each time."""
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(self.shape, generator=generator) for _ in range(batches))

    def data(self) -> list[Tensor]:
        """The batches of one measurement."""
        return list(self.stream(self.batches))


def twin(model: nn.Module) -> nn.Module:
    """The same network over the same weights in memory, for hooks that the other is not to have."""
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict(), assign=True)
    return other


def turns(batches: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The batches of a measurement in 20 to 40 turns, so that what else the machine does falls on two passes alike."""
    size = max(1, len(batches) // 32)
    return [batches[start : start + size] for start in range(0, len(batches), size)]


class Block(nn.Module):
    """ResNet's basic block: one in-place ReLU called twice."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        same = stride == 1 and channels == width
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


class FunctionalBlock(Block):
    """The same with a function in place of the module, so that functions have to be watched in every batch."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width, stride)
        del self.relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


def resnet18(block: type[Block] = Block) -> nn.Module:
    """ResNet-18's layers, with blocks of this kind."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [block(channels, width, stride), block(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def vgg11() -> nn.Module:
    """VGG-11's convolutions with a small classifier."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 4, 512), nn.ReLU(inplace=True), nn.Linear(512, 10))


def mlp(width: int, depth: int) -> nn.Module:
    """Equal hidden layers."""
    return nn.Sequential(
        *(layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())), nn.Linear(width, 10)
    )


def encoder() -> nn.Module:
    """A transformer encoder with functional ReLUs in its feed-forwards."""
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True), 4, enable_nested_tensor=False
    )


NETWORKS = {
    "ResNet-18, 64 px": Network(resnet18, (32, 3, 64, 64), 40),
    "ResNet-18, 224 px": Network(resnet18, (8, 3, 224, 224), 12),
    "ResNet-18, F.relu": Network(lambda: resnet18(FunctionalBlock), (32, 3, 64, 64), 40),
    "VGG-11, 64 px": Network(vgg11, (16, 3, 64, 64), 24),
    "MLP 2048": Network(lambda: mlp(2048, 4), (256, 2048), 24),
    "transformer": Network(encoder, (16, 64, 256), 32),
    "tiny MLP": Network(lambda: mlp(256, 6), (64, 256), 2000),
}
