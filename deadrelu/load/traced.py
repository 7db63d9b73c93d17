"""Read the shapes of the inputs with which a module was traced, from a pickle of which nothing is run."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch

from deadrelu.programs.script.program import Example

_STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}


def read_traced(pickled: bytes) -> tuple[Example, ...]:
    """The tensor inputs of `forward`, in order; () where the pickle holds anything else."""
    try:
        root = _Unpickler(io.BytesIO(pickled)).load()
        inputs = root["forward"]
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError, IndexError, AttributeError):
        return ()
    return tuple(inputs) if all(isinstance(value, Example) for value in inputs) else ()


class _Unpickler(pickle.Unpickler):
    """Knows the four names that torch writes into `traced_inputs.pkl`, each as a harmless record, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises `UnpicklingError` for every other name."""
        full = f"{module}.{name}"
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known: dict[str, Any] = {
            "torch.jit._pickle.restore_type_tag": _untagged,
            "torch._utils._rebuild_tensor_v2": _shape,
            "collections.OrderedDict": dict,
        }
        if full not in known:
            raise pickle.UnpicklingError(full)
        return known[full]

    def persistent_load(self, pid: Any) -> Any:
        """A storage, of which only the type matters."""
        return pid[1]


def _untagged(value: object, _: object) -> object:
    return value


def _shape(dtype: torch.dtype, _offset: object, size: tuple[int, ...], *_: object) -> Example:
    return Example(tuple(int(length) for length in size), dtype)
