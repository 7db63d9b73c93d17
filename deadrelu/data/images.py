"""Batches from a folder of images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadrelu.data.columns import choose_rows
from deadrelu.data.rows import Rows
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.text.wording import count

_log = logging.getLogger("deadrelu")
_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Images:
    """The images in a folder and below, in the order of their paths."""

    def __init__(self, folder: Path, program: Program, spec: DataSpec) -> None:
        """List the files. Raises `DataError` without Pillow, or where the model takes no images."""
        self._pillow = _import_pillow()
        self._folder = folder
        self._spec = spec
        self._mode = _mode(program)
        self._dtype = program.dtype
        self._paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
        )
        if not self._paths:
            _log.warning(f"{folder} holds no images ({', '.join(sorted(_ENDINGS))})")
        self._classes = None if spec.labelling is None else sorted({self._class_of(path) for path in self._paths})

    def batches(self, shard: Shard = UNSHARDED) -> Iterator[Batch]:
        """The images as `(N, C, H, W)`. Raises `DataError` for a broken image, and where sizes differ.

        An image that belongs to no batch of `shard` is not opened.
        """
        rows = choose_rows(len(self._paths), self._spec)
        first: tuple[Path, Tensor] | None = None
        batch_size = self._spec.batch_size or max(1, len(rows))
        for index, start in enumerate(range(0, len(rows), batch_size)):
            if not shard.runs(index):
                continue
            images = []
            for row in rows[start : start + batch_size]:
                path = self._paths[row]
                image = self._read(path)
                first = first or (path, image)
                if image.shape != first[1].shape:
                    raise DataError(
                        f"the images differ in size: {first[0]} is {_size(first[1])}, {path} is {_size(image)}",
                        hint="bring them to one size with --resize, such as --resize 224",
                    )
                images.append(image)
            labels = None if self._classes is None else self._labels(rows[start : start + batch_size])
            yield Batch(samples=len(images), args=(torch.stack(images).to(self._dtype),), labels=labels)

    def _labels(self, rows: Rows) -> Tensor:
        """The class of each image: the place of its sub-folder among all, sorted, as torchvision counts them."""
        assert self._classes is not None
        return torch.tensor([self._classes.index(self._class_of(self._paths[row])) for row in rows])

    def _class_of(self, path: Path) -> str:
        """The sub-folder that an image is in. Raises `DataError` where it is in none."""
        inner = path.relative_to(self._folder).parts
        if len(inner) < 2 or (self._spec.labelling is not None and self._spec.labelling.key is not None):
            raise DataError(
                f"{path} has no label: the labels of images are the sub-folders that hold them",
                hint="sort the images into one sub-folder a class, without --label-key",
            )
        return inner[0]

    def _read(self, path: Path) -> Tensor:
        """One image as `(C, H, W)`."""
        size = self._spec.images.resize
        try:
            with self._pillow.open(path) as image:
                converted = image.convert(self._mode)
                if size is not None:
                    height, width = (size, size) if isinstance(size, int) else size
                    converted = converted.resize((width, height), self._pillow.Resampling.BILINEAR)
                pixels = torch.from_numpy(np.array(converted, dtype=np.float32))
        except Exception as error:  # Pillow raises many kinds for a damaged file
            raise DataError(f"{path} is not a readable image: {error}", hint="replace it or take it away") from error
        channels = pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
        scaled = channels * self._spec.images.scale - self._per_channel("mean", 0.0, len(channels))
        return scaled / self._per_channel("std", 1.0, len(channels))

    def _per_channel(self, name: str, neutral: float, channels: int) -> Tensor:
        """The option as `(C, 1, 1)`."""
        values = getattr(self._spec.images, name) or (neutral,)
        if len(values) not in (1, channels) or (name == "std" and 0 in values):
            raise DataError(
                f"--{name} {','.join(map(str, values))} does not fit images of {count(channels, 'channel')}",
                hint=f"give one number, or {channels}; a standard deviation is not 0",
            )
        return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("reading images needs Pillow", hint="pip install 'deadrelu[images]'") from error
    return Image


def _mode(program: Program) -> str:
    """Pillow's name for the kind of image that the model's first convolution takes; RGB if it has none."""
    for path, module in program.modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels not in _MODES:
                channels = count(module.in_channels, "channel")
                raise DataError(
                    f"the first convolution, {path}, takes {channels}, which images do not have",
                    hint="give the data as an array (.npy, .npz) or as a loader (file.py:loader)",
                )
            return _MODES[module.in_channels]
    return "RGB"


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]} × {image.shape[-1]}"
