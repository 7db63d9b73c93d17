"""Lists of images: a batch for a model that takes `(N, C, H, W)`, a list for one that takes lists."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadrelu


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Conv2d(3, 5, 3), nn.ReLU()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.act(self.layer(x))


class Detector(Picture):
    def forward(self, images: list[Tensor]):
        self.seen.append(tuple(len(images) for _ in "n"))
        return [self.act(self.layer(image)) for image in images]


IMAGES = [torch.rand(3, 6, 6) for _ in range(10)]


def test_a_list_of_images_is_a_batch_of_images() -> None:
    model = Picture()
    assert deadrelu.scan(model, IMAGES, batch_size=4).data.samples == 10
    assert model.seen == [(4, 3, 6, 6), (4, 3, 6, 6), (2, 3, 6, 6)]
    assert deadrelu.scan(Picture(), iter([IMAGES, (IMAGES, list(range(10)))])).data.samples == 20


def test_a_list_of_lists_of_images_is_a_list_of_batches() -> None:
    batches = [IMAGES[:4], IMAGES[4:]]
    model = Picture()
    assert deadrelu.scan(model, batches).data.samples == 10
    assert model.seen == [(4, 3, 6, 6), (6, 3, 6, 6)]
    for data in (batches, [(batch, [{}] * len(batch)) for batch in batches]):
        detector = Detector()
        assert deadrelu.scan(detector, data).data.samples == 10
        assert detector.seen == [(4,), (6,)]


class Sound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Conv1d(1, 5, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.layer(x if self.has_channels else x.unsqueeze(1)))


@pytest.mark.parametrize(("has_channels", "shape"), [(False, (1, 1, 50)), (True, (10, 1, 50))])
def test_a_sound_of_one_channel_is_told_from_a_batch_of_one(has_channels: bool, shape: tuple[int, ...]) -> None:
    model = Sound()
    model.has_channels = has_channels
    seen: list[tuple[int, ...]] = []
    model.layer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    report = deadrelu.scan(model, [torch.randn(1, 50) for _ in range(10)])
    assert (report.data.samples, seen[-1]) == (10, shape)


def test_images_of_several_sizes_go_in_one_by_one() -> None:
    model = Picture()
    report = deadrelu.scan(model, [torch.rand(3, 6, 6 + n) for n in range(4)])
    assert (report.data.samples, report.data.batches) == (4, 4)
    assert model.seen == [(1, 3, 6, 6 + n) for n in range(4)]


@pytest.mark.parametrize("size", [0, 1])
def test_a_detector_gets_its_list_of_images(size: int) -> None:
    images = [torch.rand(3, 6, 6 + n * size) for n in range(10)]
    for data in (images, [(image, {}) for image in images]):
        model = Detector()
        assert deadrelu.scan(model, data, batch_size=4).data.samples == 10
        assert model.seen == [(4,), (4,), (2,)]
    model = Detector()
    assert deadrelu.scan(model, iter([images, (images, [{}] * 10)]), samples=13).data.samples == 13
    assert model.seen == [(10,), (3,)]
