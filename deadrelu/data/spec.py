"""Where batches come from: one value, made once from flags, configuration or arguments, and handed on whole.

The same batches can be made from it twice. A new option is a field here (and in `DataOptions`, for type checkers) and a
flag in `cli/model_options.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from deadrelu.errors import UsageError
from deadrelu.report.options import as_json

Shapes = Mapping[str, tuple[int, ...]] | Sequence[tuple[int, ...]]


def _numbers(values: Sequence[float]) -> str:
    """Numbers as a flag takes them."""
    return ",".join(map(str, values))


def _sizes(shapes: Shapes) -> dict[str, str] | list[str]:
    """Shapes as --input-shape takes them."""
    if isinstance(shapes, Mapping):
        return {name: _numbers(shape) for name, shape in shapes.items()}
    return [_numbers(shape) for shape in shapes]


def _side(size: int | tuple[int, int]) -> str:
    """A size as --resize takes it."""
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


@dataclass(frozen=True)
class ImageOptions:
    """How pixels (0..255) become the model's input: `(pixel * scale - mean) / std`, per channel.

    `resize` is a side length for a square, or `(height, width)`; None keeps the size. `mean` and `std` have one entry
    a channel, or a single one for all.
    """

    resize: int | tuple[int, int] | None = field(default=None, metadata={"write": _side})
    mean: tuple[float, ...] | None = field(default=None, metadata={"write": _numbers})
    std: tuple[float, ...] | None = field(default=None, metadata={"write": _numbers})
    scale: float = 1 / 255


class DataOptions(TypedDict, total=False):
    """The keywords by which the functions of the API make batches; see `DataSpec`."""

    data_key: str | None
    batch_size: int | None
    batch_axis: int | None
    samples: int | None
    seed: int | None
    input_shapes: Shapes | None
    inputs: Mapping[str, object] | None
    images: ImageOptions | None


@dataclass(frozen=True)
class Labelling:
    """That batches carry labels, for a loss. `key` names them: an array of a file, a key or a part of a batch."""

    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """The loss by which gradients are measured, and the labels that it gets. Without a loss there are none.

    `loss` is a name, code as `file.py:function`, or the name of a `function` that lives in memory.
    """

    loss: str | None = field(default=None, metadata={"setting": True})
    label_key: str | None = field(default=None, metadata={"setting": True})
    function: Callable[..., Any] | None = field(default=None, metadata={"flag": None})

    @classmethod
    def of(cls, loss: str | Callable[..., Any] | None, label_key: str | None) -> LossSpec:
        """The spec by the API's keywords. Raises `UsageError` for labels without a loss."""
        if loss is None and label_key is not None:
            raise UsageError("--label-key names the labels of a loss, and there is none", hint="add --loss NAME")
        if loss is None or isinstance(loss, str):
            return cls(loss=loss, label_key=label_key)
        return cls(loss=getattr(loss, "__name__", type(loss).__name__), label_key=label_key, function=loss)

    @property
    def labelling(self) -> Labelling | None:
        """How batches are to carry labels; None without a loss."""
        return None if self.loss is None else Labelling(self.label_key)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data, and how batches are made of it.

    `data`: a tensor or array `(N, …)`, a tuple, list or dict of them, a list of single rows, a DataLoader, a Dataset,
        an iterable of batches, one object that the model takes whole, a callable that returns one of these, a path, or
        code (`file.py:loader`, `pkg.mod:loader`). Default: synthetic noise, and the report says so.
    `data_key`: the arrays that go in, where there are several: `x`, or `x,mask`.
    `batch_size`: samples in one call; None gives all of a tensor or file to one call.
    `batch_axis`: the axis of the input that counts the samples. Default: 0, or 1 where the model takes time first.
    `samples`: how many samples at most: the first ones, in order.
    `seed`: of synthetic noise; of real data it draws `samples` at random.
    `input_shapes`: the shapes of synthetic inputs without the batch axis, by position or by name.
    `inputs`: more arguments for every call of the model, by name.
    `images`: how a folder of images is read, a `deadrelu.data.spec.ImageOptions`.
    `labelling`: that batches carry labels, which a loss needs.
    """

    data: object = None
    data_key: str | None = field(default=None, metadata={"setting": True})
    batch_size: int | None = field(default=64, metadata={"setting": True})
    batch_axis: int | None = field(default=None, metadata={"setting": True})
    samples: int | None = field(default=None, metadata={"setting": True})
    seed: int | None = None
    input_shapes: Shapes | None = field(default=None, metadata={"flag": "input-shape", "write": _sizes})
    inputs: Mapping[str, object] = field(
        default_factory=dict, metadata={"flag": "input", "write": as_json, "setting": True}
    )
    images: ImageOptions = field(default_factory=ImageOptions)
    labelling: Labelling | None = field(default=None, metadata={"flag": None})

    @classmethod
    def of(cls, data: object, options: Mapping[str, Any]) -> DataSpec:
        """The spec by those of the API's keywords that say how batches are made."""
        given = {f.name: options[f.name] for f in fields(cls) if f.name in options}
        for name in ("inputs", "images"):
            if given.get(name, ()) is None:
                del given[name]  # None is the default
        return cls(data=data, **given)


def axis_of_loop(options: DataOptions) -> int | None:
    """The axis of the samples in batches that somebody else's loop makes. Raises `UsageError` for any other option."""
    others = ", ".join(name for name in options if name != "batch_axis")
    if others:
        raise UsageError(f"{others} is about the batches of a probe, and there is none", hint="give probe=batches")
    return options.get("batch_axis")
