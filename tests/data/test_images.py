"""A folder of images becomes batches as the model takes them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec, ImageOptions
from deadrelu.errors import DataError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three 6 × 5 images, one in a folder below, one grey; and files that are no images."""
    generator = np.random.default_rng(0)
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.bmp", "sub/c.PPM"):
        Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(tmp_path / name)
    Image.open(tmp_path / "b.png").convert("L").save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.png").write_bytes(b"left by another system")
    return tmp_path


def test_pixels_are_scaled_in_the_order_of_the_paths(folder: Path, program_of) -> None:
    (batch,) = open_data(DataSpec(data=folder), program_of(nn.Conv2d(3, 2, 3)))
    expected = [np.asarray(Image.open(folder / n).convert("RGB")) / 255 for n in ("a.bmp", "b.png", "sub/c.PPM")]
    assert batch.args[0].shape == (3, 3, 6, 5)
    assert np.allclose(batch.args[0].numpy(), np.stack(expected).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_follow_the_first_convolution(folder: Path, program_of, channels: int) -> None:
    (batch,) = open_data(DataSpec(data=folder), program_of(nn.Sequential(nn.Conv2d(channels, 2, 3))))
    assert batch.args[0].shape == (3, channels, 6, 5)


def test_mean_std_scale_and_size_are_applied(folder: Path, program_of) -> None:
    options = ImageOptions(resize=(4, 8), mean=(1.0, 2.0, 3.0), std=(2.0,), scale=0.0)
    (batch,) = open_data(DataSpec(data=folder, images=options), program_of(nn.Conv2d(3, 2, 3)))
    assert batch.args[0].shape == (3, 3, 4, 8)
    assert batch.args[0][0, :, 0, 0].tolist() == [-0.5, -1.0, -1.5]


def test_samples_and_batch_size_count_images(folder: Path, program_of) -> None:
    program = program_of(nn.Conv2d(3, 2, 3).double())
    batches = list(open_data(DataSpec(data=folder, batch_size=1, samples=2, seed=1), program))
    assert [batch.samples for batch in batches] == [1, 1]
    assert batches[0].args[0].dtype == torch.float64


def test_differing_sizes_name_two_files_and_the_option(folder: Path, program_of) -> None:
    Image.new("RGB", (9, 7)).save(folder / "z.png")
    program = program_of(nn.Conv2d(3, 2, 3))
    with pytest.raises(DataError, match=r"a\.bmp is 6 × 5, .*z\.png is 7 × 9") as caught:
        list(open_data(DataSpec(data=folder), program))
    assert "--resize" in caught.value.hint
    (batch,) = open_data(DataSpec(data=folder, images=ImageOptions(resize=8)), program)
    assert batch.args[0].shape == (4, 3, 8, 8)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n cut"])
def test_a_broken_image_is_named(folder: Path, program_of, content: bytes) -> None:
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png is not a readable image"):
        list(open_data(DataSpec(data=folder), program_of(nn.Conv2d(3, 2, 3))))


def test_a_folder_without_images_gives_no_batch_and_a_warning(tmp_path: Path, linear, caplog) -> None:
    caplog.set_level(logging.WARNING, "deadrelu")
    assert list(open_data(DataSpec(data=tmp_path), linear)) == []
    assert "holds no images" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"), [(ImageOptions(mean=(1.0, 2.0)), "--mean 1.0,2.0"), (ImageOptions(std=(0.0,)), "--std 0.0")]
)
def test_options_that_do_not_fit_are_refused(folder: Path, program_of, options: ImageOptions, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(open_data(DataSpec(data=folder, images=options), program_of(nn.Conv2d(3, 2, 3))))


def test_a_model_of_other_channels_takes_no_images(folder: Path, program_of) -> None:
    with pytest.raises(DataError, match="takes 7 channels"):
        open_data(DataSpec(data=folder), program_of(nn.Sequential(nn.Conv2d(7, 2, 3))))


def test_without_pillow_the_extra_is_named(folder: Path, linear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError) as caught:
        open_data(DataSpec(data=folder), linear)
    assert caught.value.hint == "pip install 'deadrelu[images]'"
