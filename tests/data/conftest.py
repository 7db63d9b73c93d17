"""A program that does no more than the data room needs: it runs a module, and tells what the module takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from deadrelu.programs.program import Batch


@dataclass
class FakeProgram:
    """A module behind the parts of `Program` that are used here."""

    module: nn.Module
    example: Batch | None = None
    kind: str = "eager"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.module.forward).parameters)

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.module.parameters()), torch.float32)

    @property
    def takes_indices(self) -> bool:
        return any(isinstance(m, nn.Embedding) for m in self.module.modules())

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield from self.module.named_modules()

    def example_inputs(self) -> Batch | None:
        return self.example

    def skipped(self) -> tuple[Any, ...]:
        return ()

    @contextmanager
    def watched(self, observer: object) -> Iterator[Callable[[Batch], Any]]:
        del observer
        with self.plainly() as run:
            yield run

    @contextmanager
    def plainly(self) -> Iterator[Callable[[Batch], Any]]:
        with torch.no_grad():
            yield lambda batch: self.module.eval()(*batch.args, **batch.kwargs)


class TwoInputs(nn.Module):
    """Takes `x` and, if given, a `mask` and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x, mask=None, labels=None):  # noqa: ARG002
        return self.layer(x)


class Pair(nn.Module):
    """Requires two inputs, called like nothing in particular."""

    def forward(self, left, right):
        return left + right


@pytest.fixture
def linear() -> FakeProgram:
    """One input of four features."""
    return FakeProgram(nn.Linear(4, 2))


@pytest.fixture
def program_of() -> type[FakeProgram]:
    """Wrap any module."""
    return FakeProgram


@pytest.fixture
def masked() -> FakeProgram:
    """`forward(x, mask=None, labels=None)`."""
    return FakeProgram(TwoInputs())


@pytest.fixture
def pair() -> FakeProgram:
    """`forward(left, right)`."""
    return FakeProgram(Pair())
