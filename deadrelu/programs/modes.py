"""Two of torch's ways to stand between a model and what it calls: functions by name, and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

Handler = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]


class Functions(TorchFunctionMode):
    """Hands every torch function call to a handler, which makes the call."""

    def __init__(self, handler: Handler) -> None:
        """Nothing happens before the mode is entered."""
        super().__init__()
        self._handler = handler

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's own hook."""
        return self._handler(func, args, kwargs or {})


class Operators(TorchDispatchMode):
    """Hands every aten operator call to a handler, which makes the call."""

    def __init__(self, handler: Handler) -> None:
        """Nothing happens before the mode is entered."""
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
    """While it lasts, no operator mode hears of anything: what we compute ourselves is no part of the model.

    `_disable_current_modes` is private to torch (seen on 2.13.0); a canary test says what to do when it is gone.
    """
    return _disable_current_modes()
