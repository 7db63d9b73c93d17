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
