"""Inputs made up where there is no data: seeded normal noise, in the shape that the model takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Any

import torch
from torch import Generator, Tensor

from deadrelu.data.batches import Batches, first_tensor
from deadrelu.data.fit import with_inputs
from deadrelu.data.pretrained import candidates_from_config, complete
from deadrelu.data.shapes import InputShape, candidates, smallest_vocabulary
from deadrelu.data.signature import signature_of
from deadrelu.data.spec import DataSpec, Shapes
from deadrelu.errors import DataError
from deadrelu.programs.program import Batch, Program
from deadrelu.report import DataInfo

_log = logging.getLogger("deadrelu")
SYNTHETIC_SAMPLES = 512
"""Enough to tell dead from rare at the default settings, which takes 299."""

_TRIAL = 2
_HINT = "say what the model takes with --input-shape, such as --input-shape 3,32,32, or give --data"


@dataclass(frozen=True)
class _Inputs:
    """Everything that one call of the model gets, as shapes."""

    args: tuple[InputShape, ...] = ()
    kwargs: Mapping[str, InputShape] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the user gives to every call."""

    def __str__(self) -> str:
        named = [f"{name} {shape}" for name, shape in (self.kwargs or {}).items()]
        return ", ".join([*map(str, self.args), *named])

    def noise(self, samples: int, dtype: torch.dtype, generator: Generator) -> Batch:
        """One batch: standard normal numbers, and indices drawn evenly."""
        args = tuple(_noise(shape, samples, dtype, generator) for shape in self.args)
        kwargs = {name: _noise(shape, samples, dtype, generator) for name, shape in (self.kwargs or {}).items()}
        axis = max((shape.batch_axis for shape in (*self.args, *(self.kwargs or {}).values())), default=0)
        return with_inputs(Batch(samples=samples, args=args, kwargs=kwargs, axis=axis), self.given)


def synthesise(program: Program, spec: DataSpec) -> Batches:
    """Batches of noise that the model accepts, the same for the same seed (default 0); 512 samples by default.

    The shapes are, in this order: those of the spec, those of the example inputs that the model carries, or those
    inferred from its first layers by trying. Without a `batch_axis`, the layer that gives the shape gives it.

    Raises `DataError` where the model runs on none of them.
    """
    seed = spec.seed or 0
    samples = SYNTHETIC_SAMPLES if spec.samples is None else spec.samples
    batch_size = samples if spec.batch_size is None else spec.batch_size
    check_sizes(batch_size, samples)
    example = None if spec.input_shapes else program.example_inputs()
    if example is not None:
        info = _info("the model's example inputs, and synthetic normal noise in their shapes", seed)
        return Batches(info=info, start=lambda shard: shard.select(_like(example, samples, seed)))
    made = _given(program, spec, spec.input_shapes) if spec.input_shapes else _inferred(program, spec)
    dtype = program.dtype

    def start() -> Iterator[Batch]:
        generator = Generator().manual_seed(seed)
        for done in range(0, samples, batch_size):
            yield made.noise(min(batch_size, samples - done), dtype, generator)

    # Noise depends on all the noise before it, so that the batches of other processes are drawn too.
    return Batches(info=_info(f"synthetic {made}", seed), start=lambda shard: shard.select(start()))


def _info(source: str, seed: int) -> DataInfo:
    return DataInfo(source=source, kind="synthetic", samples=0, batches=0, seed=seed)


def check_sizes(batch_size: int | None, samples: int | None) -> None:
    """Raise `DataError` where one of them is below 1."""
    if any(size is not None and size < 1 for size in (batch_size, samples)):
        raise DataError(
            f"the batch size ({batch_size}) and the number of samples ({samples}) must be at least 1",
            hint="give --batch-size and --samples above 0",
        )


def _given(program: Program, spec: DataSpec, shapes: Shapes) -> _Inputs:
    """The user's shapes, as numbers where the model accepts them so, otherwise as indices into its first embedding."""
    sizes = list(shapes.values()) if isinstance(shapes, Mapping) else list(shapes)
    names = list(shapes) if isinstance(shapes, Mapping) else None
    if any(size < 1 for shape in sizes for size in shape):
        raise DataError(f"the input shape {sizes} has a size below 1", hint="give sizes without the batch axis")
    vocabulary = smallest_vocabulary(program) if program.takes_indices else None
    kinds = (None,) if vocabulary is None else (None, vocabulary)
    refusals = []
    for choice in product(kinds, repeat=len(sizes)):
        made = tuple(
            InputShape(tuple(shape), kind, batch_axis=spec.batch_axis or 0)
            for shape, kind in zip(sizes, choice, strict=True)
        )
        named = None if names is None else dict(zip(names, made, strict=True))
        inputs = _Inputs(kwargs=named, given=spec.inputs) if named else _Inputs(made, given=spec.inputs)
        refusal, _ = _try(program, inputs, spec.seed or 0)
        if refusal is None:
            return inputs
        refusals.append(refusal)
    raise DataError(
        f"the model does not run on the given input shape {', '.join(map(str, sizes))}: {refusals[0]}",
        hint="give each --input-shape without the batch axis, one an input, or NAME=SHAPE",
    )


def _inferred(program: Program, spec: DataSpec) -> _Inputs:
    """The first candidate on which the model runs; best if its output has one row a sample."""
    given, axis = spec.inputs, spec.batch_axis
    runs: _Inputs | None = None
    first: tuple[str, str] | None = None
    from_config = (("its config.json", _Inputs(kwargs=named, given=given)) for named in candidates_from_config(program))
    keyword = _keyword(program, given)

    def of(shape: InputShape) -> _Inputs:
        shape = shape if axis is None else replace(shape, batch_axis=axis)
        return _Inputs((shape,), given=given) if keyword is None else _Inputs(kwargs={keyword: shape}, given=given)

    from_layers = ((f"its first layer, {layer},", of(shape)) for layer, shape in candidates(program))
    for origin, inputs in chain(from_config, from_layers):
        refusal, per_sample = _try(program, inputs, spec.seed or 0)
        if refusal is not None:
            first = first or (origin, refusal)
        elif per_sample:
            runs = inputs
            break
        else:
            runs = runs or inputs
    if runs is not None:
        _log.info(f"no data was given, so the input is synthetic: {runs}")
        return runs
    if first is None:
        raise DataError("no data was given, and no layer of the model tells which input it takes", hint=_HINT)
    raise DataError(f"no data was given, and no input shape that fits {first[0]} runs: {first[1]}", hint=_HINT)


def _keyword(program: Program, given: Mapping[str, Any]) -> str | None:
    """The name of the one input where it cannot go by position; None where it can."""
    signature = signature_of(program, given)
    if len(signature.required) != 1 or not signature.is_known or signature.is_by_position(signature.required):
        return None
    return signature.required[0]


def _try(program: Program, inputs: _Inputs, seed: int) -> tuple[str | None, bool]:
    """Run two samples: why the model refuses them, or None; and whether its output has a row for each."""
    batch = complete(inputs.noise(_TRIAL, program.dtype, Generator().manual_seed(seed)), program)
    try:
        with program.watched(lambda _site, _z: None) as run:
            output = run(batch)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a wrong shape makes the model raise
        said = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        return " ".join(said.split())[:200], False
    tensor = first_tensor(output)
    axis = batch.axis
    return None, tensor is not None and tensor.dim() > axis and _TRIAL in (tensor.shape[0], tensor.shape[axis])


def _noise(shape: InputShape, samples: int, dtype: torch.dtype, generator: Generator) -> Tensor:
    sizes = list(shape.sizes)
    sizes.insert(shape.batch_axis, samples)
    if shape.vocabulary is not None:
        return _indices(shape, shape.vocabulary, sizes, generator)
    return torch.randn(sizes, generator=generator).to(dtype)


def _indices(shape: InputShape, vocabulary: int, sizes: list[int], generator: Generator) -> Tensor:
    """Indices below `vocabulary`, without the barred ones, each equally likely."""
    drawn = torch.randint(0, vocabulary - len(shape.barred), sizes, generator=generator)
    for barred in sorted(shape.barred):
        drawn += drawn >= barred
    if shape.end is not None and drawn.ndim > 1:
        drawn[..., -1] = shape.end
    return drawn


def _like(example: Batch, samples: int, seed: int) -> Iterator[Batch]:
    """The example itself, then noise in its shapes; its batch size may be the only one that the model takes."""
    generator = Generator().manual_seed(seed)

    def noise(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: noise(inner) for key, inner in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(noise, value))
        if not isinstance(value, Tensor) or value.dtype == torch.bool or value.is_complex():
            return value
        if value.is_floating_point():
            return torch.randn(value.shape, generator=generator).to(value.dtype)
        drawn = torch.randint(0, max(1, value.numel()), value.shape, generator=generator)
        return value.flatten()[drawn]  # only indices that the example uses are sure to be valid

    yield example
    more = -(-samples // max(1, example.samples)) - 1
    for _ in range(more):
        yield replace(example, args=noise(example.args), kwargs=noise(example.kwargs))
