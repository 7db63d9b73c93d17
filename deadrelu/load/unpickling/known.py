"""The exact pickle names of what may be rebuilt from a file: torch.nn's classes, activation functions, records."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

DATA_PARALLEL = "torch.nn.parallel.data_parallel.DataParallel"
"""Holds its model in `module`; it is unwrapped, since the device ids in the file mean nothing here."""

COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What torch.compile returns: called with the model itself and with how to compile it, of which nothing is kept."""

COMPILING = frozenset({COMPILED, "torch._dynamo.eval_frame.OptimizeContext", "builtins.getattr"})
"""What the pickle of a compiled module calls."""

PARTIAL = "functools.partial"
GETATTR = "builtins.getattr"
TORCH_FUNCTIONS = "torch._C._VariableFunctionsClass"
"""A builtin such as `torch.relu` is pickled as getattr(`_VariableFunctionsClass`, "relu")."""

_ACTIVATIONS = (
    *("relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "glu", "leaky_relu", "hardtanh", "hardswish"),
    *("hardsigmoid", "hardshrink", "softshrink", "tanhshrink", "softsign", "softplus", "logsigmoid", "tanh", "sigmoid"),
)
_BUILTINS = ("relu", "relu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "selu", "selu_", "celu", "celu_", "hardshrink")

DICT_LIKE = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Subclasses of dict, read as plain ones: the unpickler fills nothing but plain dictionaries."""

RECORDS = frozenset(
    {
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
        *("pathlib._local.PosixPath", "pathlib._local.WindowsPath", "argparse.Namespace", "types.SimpleNamespace"),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *("numpy.dtype", "numpy.ndarray", "collections.deque", "collections.defaultdict", "uuid.UUID"),
        *("datetime.date", "datetime.datetime", "datetime.timedelta", "datetime.timezone", "decimal.Decimal"),
        *("builtins.list", "builtins.frozenset", "builtins.range", "builtins.slice"),
    }
)
"""What checkpoints call to make the plain values beside their weights. Here it is left out, never called."""


REASONS = {
    "torch.fx.graph_module.reduce_graph_module": "an fx GraphModule carries its forward as Python source",
    "torch.nn.parameter.UninitializedParameter": "a lazy module has no weights before its first batch",
    "torch.nn.utils.weight_norm.WeightNorm": "weight_norm is a hook, which is code: remove_weight_norm takes it out",
    "torch.nn.utils.spectral_norm.SpectralNorm": "spectral_norm is a hook, which is code: take it out",
}
"""Why some names of torch itself are refused, and what the person who saved the file can do."""


@lru_cache(maxsize=1)
def torch_classes() -> Mapping[str, type[nn.Module]]:
    """Every module class that torch.nn.modules defines, by its pickle name; not the lazy ones, which lack shapes."""
    homes = [module for name, module in sorted(sys.modules.items()) if name.startswith("torch.nn.modules.")]
    return MappingProxyType(
        {
            f"{found.__module__}.{found.__qualname__}": found
            for home in homes
            for found in vars(home).values()
            if inspect.isclass(found)
            and issubclass(found, nn.Module)
            and not issubclass(found, LazyModuleMixin)
            and found.__module__ == home.__name__
        }
    )


@lru_cache(maxsize=1)
def torch_functions() -> Mapping[str, Callable[..., Any]]:
    """The activation functions of torch by pickle name; a builtin's is `torch._C._VariableFunctionsClass.NAME`."""
    functional = {_pickle_name(function): function for function in (getattr(F, name) for name in _ACTIVATIONS)}
    return MappingProxyType(functional | {f"{TORCH_FUNCTIONS}.{name}": getattr(torch, name) for name in _BUILTINS})


def _pickle_name(function: Callable[..., Any]) -> str:
    """The name under which pickle writes a function; some of `F`'s are builtins of `torch._C._nn`."""
    return f"{function.__module__}.{function.__name__}"
