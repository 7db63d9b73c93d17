"""Torch's function and dispatch modes, and how to leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

Handler = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]


class Functions(TorchFunctionMode):
    """Passes every torch function call to a handler, which makes the call."""

    def __init__(self, handler: Handler) -> None:
        """Nothing happens until the mode is entered."""
        super().__init__()
        self._handler = handler

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's own hook."""
        return self._handler(func, args, kwargs or {})


class Operators(TorchDispatchMode):
    """Passes every aten operator call to a handler, which makes the call."""

    def __init__(self, handler: Handler) -> None:
        """Nothing happens until the mode is entered."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own annotations have a gap
        self._handler = handler

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would wrap the method below so that its first call imports torch._dynamo: a second of every scan.

        Nothing is compiled while a mode is entered, so there is nothing to skip (private; seen on torch 2.13.0).
        """
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's own hook."""
        return self._handler(func, args, kwargs or {})


def without_modes() -> AbstractContextManager[object]:
    """Disable every dispatch mode: what we compute ourselves is not part of the model.

    `_disable_current_modes` is private to torch (seen on 2.13.0); a canary test says what to do when it is gone.
    """
    return _disable_current_modes()


without_functions: Callable[[], AbstractContextManager[object]] = torch._C.DisableTorchFunction
"""Disables every function mode. Private to torch (seen on 2.13.0), and watched by the same canary."""


def is_transformed(value: Tensor) -> bool:
    """Whether a tensor is inside a transform of torch.func (vmap, jvp, …), where no value can be read.

    `is_functorch_wrapped_tensor` is private to torch (seen on 2.13.0), and watched by the same canary.
    """
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(value))
