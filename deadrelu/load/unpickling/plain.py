"""Reads a checkpoint of plain values and tensors as the very objects, so that it can be written again."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from typing import Any

import torch

from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.known import RECORDS


def read_plain(origin: Origin) -> Any:
    """Everything in the file, on the CPU: by torch's weights-only unpickler, to which `RECORDS` are allowed.

    Raises `pickle.UnpicklingError` where the file holds other objects.
    """
    with torch.serialization.safe_globals(list(_records())):
        try:
            return torch.load(origin.held, map_location="cpu", weights_only=True)
        except (AttributeError, TypeError, ValueError, ImportError) as error:  # a record that cannot be made again
            raise pickle.UnpicklingError(str(error)) from error


def _records() -> Iterator[Any]:
    """The constructors of plain values that this Python and numpy have, under the names that files give them."""
    for name in sorted(RECORDS):
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
        yield found, name
    for kind in vars(importlib.import_module("numpy.dtypes")).values():
        if isinstance(kind, type):
            yield kind
