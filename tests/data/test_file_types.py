"""Types of arrays in a file: integers stay what they are where the model takes them, and are cast where it does not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import deadrelu

DICE = np.random.default_rng(0)
TABLE = DICE.integers(0, 9, (20, 4))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.seen = nn.Linear(4, 3), nn.ReLU(), []

    def forward(self, x):
        self.seen.append(x.dtype)
        return self.act(self.layer(x))


class OwnTable(Linear):
    """Looks up rows of a parameter, without an nn.Embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(9, 1))

    def forward(self, x):
        self.seen.append(x.dtype)
        return self.act(self.layer(self.rows[x].squeeze(-1)))


class Features(Linear):
    """Two inputs; it adds them up before its layer."""

    def forward(self, x, more):
        self.seen.append((x.dtype, more.dtype))
        return self.act(self.layer(x) + more @ self.layer.weight.T)


class Pixels(nn.Module):
    """Scales bytes, not floats."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.seen = nn.Conv2d(3, 4, 3), nn.ReLU(), []

    def forward(self, x):
        self.seen.append(x.dtype)
        return self.act(self.layer(x.float() / 255 if x.dtype == torch.uint8 else x))


@pytest.mark.parametrize(("model", "kept"), [(Linear, torch.float32), (OwnTable, torch.int64)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_a_table_of_integers_is_cast_only_where_the_model_refuses_it(
    tmp_path: Path, model: type[Linear], kept: torch.dtype, dtype: type, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    np.save(tmp_path / "x.npy", TABLE.astype(dtype))
    net = model()
    report = deadrelu.scan(net, tmp_path / "x.npy", batch_size=8)
    assert (report.data.samples, report.data.batches) == (20, 3)
    assert net.seen[-3:] == [kept] * 3
    assert ("cast" in caplog.text) == (torch.from_numpy(TABLE.astype(dtype)).dtype != kept)


@pytest.mark.parametrize(("more", "kept"), [(np.int64, torch.float32), (np.float64, torch.float32)])
def test_later_features_of_integers_are_cast_where_the_model_refuses_them(
    tmp_path: Path, more: type, kept: torch.dtype
) -> None:
    np.savez(tmp_path / "d.npz", x=TABLE, more=TABLE.astype(more))
    net = Features()
    assert deadrelu.scan(net, tmp_path / "d.npz").data.samples == 20
    assert net.seen[-1] == (torch.float32, kept)


def test_an_image_of_bytes_in_a_file_is_cast_with_a_note_and_in_a_loader_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    images = DICE.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    net = Pixels()
    deadrelu.scan(net, tmp_path / "x.npy")
    assert net.seen == [torch.float32]
    assert "x.npy" not in caplog.text.partition("cast from uint8 to float32")[0]
    assert "not scaled" in caplog.text
    caplog.clear()
    for data in (iter([torch.from_numpy(images)]), images, torch.from_numpy(images), [images]):
        net = Pixels()
        deadrelu.scan(net, data)
        assert set(net.seen) == {torch.uint8}
    assert "cast" not in caplog.text


def test_complex_numbers_in_a_file_go_in(tmp_path: Path) -> None:
    class Magnitude(Linear):
        def forward(self, x):
            self.seen.append(x.dtype)
            return self.act(self.layer(x.abs()))

    np.save(tmp_path / "x.npy", TABLE + 1j * TABLE)
    net = Magnitude()
    assert deadrelu.scan(net, tmp_path / "x.npy").data.samples == 20
    assert set(net.seen) == {torch.complex64}
