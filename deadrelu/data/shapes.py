"""Which input shapes a model may take, read from its first layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any

from torch import Tensor, nn

from deadrelu.programs.program import Program

_SIDES = (64, 32, 28, 224, 8, 16, 96, 128, 48, 256, 299, 384, 512, 4)
_SIDES_3D = (16, 32, 8, 64)
_GROWING = (1, 4, 8, 7, 16, 32)
_LENGTHS = (64, 128, 256, 32, 16, 1024, 8, 4096, 16000)
_STEPS = 16
_LAYERS_TRIED = 4
_MOST_ELEMENTS = 1 << 28


@dataclass(frozen=True)
class InputShape:
    """The shape of one input without its batch axis; `vocabulary` is set where it holds indices below it.

    `batch_axis` is 1 for a recurrent or attention layer that takes time first. Of the indices, `barred` ones are never
    drawn, and `end` is always the last.
    """

    sizes: tuple[int, ...]
    vocabulary: int | None = None
    batch_axis: int = 0
    barred: tuple[int, ...] = ()
    end: int | None = None

    def __str__(self) -> str:
        sizes = f"({', '.join(map(str, self.sizes))}{',' if len(self.sizes) == 1 else ''})"
        return f"normal {sizes}" if self.vocabulary is None else f"indices below {self.vocabulary} {sizes}"


def candidates(program: Program) -> Iterator[tuple[str, InputShape]]:
    """Shapes worth trying, best first, each with the layer (`conv1: Conv2d`) that it comes from.

    The layer registered first is usually the one that runs first; a few more are tried in case it is not.
    """
    known = ((path, module, _shapes(module)) for path, module in program.modules())
    recognised = ((path, module, shapes) for path, module, shapes in known if shapes)
    for path, module, shapes in islice(recognised, _LAYERS_TRIED):
        for shape in shapes:
            yield f"{path or '(root)'}: {type(module).__name__}", shape


def smallest_vocabulary(program: Program) -> int | None:
    """A bound that is safe for indices into the model's first embedding, or None without one."""
    sizes = [m.num_embeddings for _, m in program.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return sizes[0] if sizes and type(sizes[0]) is int and sizes[0] > 0 else None


def _shapes(module: nn.Module) -> tuple[InputShape, ...]:
    """The input shapes that this one layer takes, () if it says nothing of them."""
    for kind, shapes in _TABLE:
        if isinstance(module, kind):
            try:
                found: tuple[InputShape, ...] = shapes(module)
            except Exception:  # a file may give a layer anything as its sizes
                return ()
            return tuple(filter(_is_possible, found))
    return ()


def _is_possible(shape: InputShape) -> bool:
    """Whether one sample of this shape can be made at all."""
    sizes = (*shape.sizes, 1 if shape.vocabulary is None else shape.vocabulary)
    return all(type(size) is int and 0 < size < 1 << 62 for size in sizes) and prod(shape.sizes) <= _MOST_ELEMENTS


def _inputs_of(module: Any) -> Any:
    """How many features a linear layer takes: its weight decides, not the number that is written beside it."""
    weight = getattr(module, "weight", None)
    return weight.shape[1] if isinstance(weight, Tensor) and weight.ndim == 2 else module.in_features


def _square(channels: int) -> tuple[InputShape, ...]:
    return tuple(InputShape((channels, side, side)) for side in _SIDES)


def _flat_or_steps(features: int) -> tuple[InputShape, ...]:
    return InputShape((features,)), InputShape((_STEPS, features))


def _channels_first(features: int) -> tuple[InputShape, ...]:
    return InputShape((features,)), *(InputShape((features, length)) for length in _LENGTHS)


def _layer_norm(module: Any) -> tuple[InputShape, ...]:
    sizes = tuple(module.normalized_shape)
    return InputShape(sizes), InputShape((_STEPS, *sizes))


def _unflatten(module: Any) -> tuple[InputShape, ...]:
    sizes = module.unflattened_size
    if module.dim != 1 or not all(isinstance(size, int) and size > 0 for size in sizes):
        return ()
    product = 1
    for size in sizes:
        product *= size
    return (InputShape((product,)),)


def _embedding(module: Any) -> tuple[InputShape, ...]:
    lengths = tuple(dict.fromkeys((_STEPS, min(_STEPS, module.num_embeddings), 1, 8, 32, 64, 128)))
    return *(InputShape((n,), module.num_embeddings) for n in lengths), InputShape((), module.num_embeddings)


def _recurrent(features: int, *, batch_first: bool) -> tuple[InputShape, ...]:
    return (InputShape((_STEPS, features), batch_axis=0 if batch_first else 1),)


_TABLE: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any], tuple[InputShape, ...]]], ...] = (
    (nn.Bilinear, lambda _: ()),
    (nn.Linear, lambda m: _flat_or_steps(_inputs_of(m))),
    (nn.Conv1d, lambda m: tuple(InputShape((m.in_channels, n)) for n in _LENGTHS)),
    (nn.Conv2d, lambda m: _square(m.in_channels)),
    (nn.Conv3d, lambda m: tuple(InputShape((m.in_channels, n, n, n)) for n in _SIDES_3D)),
    (nn.ConvTranspose1d, lambda m: tuple(InputShape((m.in_channels, n)) for n in _GROWING)),
    (nn.ConvTranspose2d, lambda m: tuple(InputShape((m.in_channels, n, n)) for n in _GROWING)),
    (nn.ConvTranspose3d, lambda m: tuple(InputShape((m.in_channels, n, n, n)) for n in _GROWING)),
    ((nn.BatchNorm1d, nn.InstanceNorm1d), lambda m: _channels_first(m.num_features)),
    ((nn.BatchNorm2d, nn.InstanceNorm2d), lambda m: _square(m.num_features)),
    (
        (nn.BatchNorm3d, nn.InstanceNorm3d),
        lambda m: tuple(InputShape((m.num_features, n, n, n)) for n in _SIDES_3D),
    ),
    (nn.GroupNorm, lambda m: (*_square(m.num_channels), *_channels_first(m.num_channels))),
    (nn.LayerNorm, _layer_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.RNNBase, lambda m: _recurrent(m.input_size, batch_first=m.batch_first)),
    (nn.RNNCellBase, lambda m: (InputShape((m.input_size,)),)),
    (nn.MultiheadAttention, lambda m: _recurrent(m.embed_dim, batch_first=m.batch_first)),
    (nn.Unflatten, _unflatten),
)
