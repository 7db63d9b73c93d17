"""Two of torch's ways to stand between a model and what it calls: functions by name, and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

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

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's own hook."""
        return self._handler(func, args, kwargs or {})
