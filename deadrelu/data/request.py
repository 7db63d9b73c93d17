"""What the user asks of the data, in one noun, so that the same batches can be made twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deadrelu.data.batches import Batches
from deadrelu.data.images import ImageOptions
from deadrelu.data.pretrained import completed
from deadrelu.data.source import open_data
from deadrelu.data.synthetic import synthesise
from deadrelu.errors import UsageError
from deadrelu.programs.program import Program

Shapes = Mapping[str, tuple[int, ...]] | Sequence[tuple[int, ...]]

SYNTHETIC_SAMPLES = 512
"""Enough to tell dead from rare at the default settings, which takes 299."""


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Where the batches come from (None: noise), how large they are, and how many samples in all."""

    data: object = None
    batch_size: int = 64
    samples: int | None = None
    seed: int | None = None
    data_key: str | None = None
    input_shapes: Shapes | None = None
    images: ImageOptions | None = None

    def batches(self, program: Program) -> Batches:
        """The batches for `program`. Raises `DataError` where there are none, `UsageError` where options contradict."""
        return completed(self._given(program), program)

    def _given(self, program: Program) -> Batches:
        """The batches as the data has them."""
        if self.data is None:
            return synthesise(
                program,
                input_shapes=self.input_shapes,
                samples=self.samples or SYNTHETIC_SAMPLES,
                batch_size=self.batch_size,
                seed=self.seed or 0,
            )
        if self.input_shapes:
            raise UsageError("--input-shape is for synthetic data, and --data was given", hint="leave one of them out")
        return open_data(
            self.data,
            program,
            batch_size=self.batch_size,
            samples=self.samples,
            seed=self.seed,
            data_key=self.data_key,
            images=self.images,
        )
