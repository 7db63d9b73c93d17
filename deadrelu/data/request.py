"""What the user asks of the data, in one noun, so that the same batches can be made twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from deadrelu.data.batches import Batches
from deadrelu.data.fit import with_inputs
from deadrelu.data.images import ImageOptions
from deadrelu.data.pretrained import completed
from deadrelu.data.signature import check_inputs
from deadrelu.data.source import open_data
from deadrelu.data.synthetic import synthesise
from deadrelu.errors import UsageError
from deadrelu.programs.program import Program

Shapes = Mapping[str, tuple[int, ...]] | Sequence[tuple[int, ...]]

SYNTHETIC_SAMPLES = 512
"""Enough to tell dead from rare at the default settings, which takes 299."""


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Where the batches come from (None: noise), how large they are, and how many samples in all.

    `batch_size` None is all in one call. `batch_axis` counts the samples (None: seen from the model). `inputs` are
    given to every call of the model by name.
    """

    data: object = None
    batch_size: int | None = 64
    batch_axis: int | None = None
    samples: int | None = None
    seed: int | None = None
    data_key: str | None = None
    input_shapes: Shapes | None = None
    inputs: Mapping[str, object] = field(default_factory=dict)
    images: ImageOptions | None = None

    def options(self) -> dict[str, object]:
        """The values by their long flags without the dashes."""
        given = self.input_shapes or ()
        shapes: object
        if isinstance(given, Mapping):
            shapes = {name: _size(shape) for name, shape in given.items()}
        else:
            shapes = [_size(shape) for shape in given]
        return {
            "data": self.data,
            "data-key": self.data_key,
            "batch-size": "none" if self.batch_size is None else self.batch_size,
            "batch-axis": self.batch_axis,
            "samples": self.samples,
            "seed": self.seed,
            "input-shape": shapes,
            "input": {name: json.dumps(value, default=str) for name, value in self.inputs.items()},
            **(self.images.options() if self.images else {}),
        }

    def batches(self, program: Program) -> Batches:
        """The batches for `program`. Raises `DataError` where there are none, `UsageError` where options contradict."""
        check_inputs(self.inputs, program)
        given = self._given(program)
        start = given.start
        filled = replace(given, start=lambda shard: (with_inputs(batch, self.inputs) for batch in start(shard)))
        return completed(filled if self.inputs else given, program)

    def _given(self, program: Program) -> Batches:
        """The batches as the data has them."""
        if self.data is None:
            return synthesise(
                program,
                input_shapes=self.input_shapes,
                samples=self.samples or SYNTHETIC_SAMPLES,
                batch_size=self.batch_size,
                batch_axis=self.batch_axis,
                seed=self.seed or 0,
                inputs=self.inputs,
            )
        if self.input_shapes:
            raise UsageError("--input-shape is for synthetic data, and --data was given", hint="leave one of them out")
        return open_data(
            self.data,
            program,
            batch_size=self.batch_size,
            batch_axis=self.batch_axis,
            samples=self.samples,
            seed=self.seed,
            data_key=self.data_key,
            inputs=self.inputs,
            images=self.images,
        )


def _size(shape: Sequence[int]) -> str:
    """A shape as --input-shape takes it."""
    return ",".join(map(str, shape))
