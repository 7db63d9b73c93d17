"""Runs a block around each call of a module, and leaves nothing on the module: no hook, no attribute.

What is on a module goes into its copies and files. So `nn.Module.__call__` is replaced for as long as some module is
watched, as torch.fx does while it traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import nn

Around = Callable[[tuple[Any, ...], Mapping[str, Any]], AbstractContextManager[object]]
"""Makes the block around one call, from its arguments."""

_call = nn.Module.__call__
_around: dict[int, list[Around]] = {}


@contextmanager
def around_calls(module: nn.Module, around: Around) -> Iterator[None]:
    """Run `around` around each call of `module`, in any thread, until the block is left."""
    if not _around:
        nn.Module.__call__ = _watched_call  # type: ignore[method-assign]
    _around.setdefault(id(module), []).append(around)
    try:
        yield
    finally:
        _around[id(module)].remove(around)
        if not _around[id(module)]:
            del _around[id(module)]
        if not _around:
            nn.Module.__call__ = _call  # type: ignore[method-assign]


def _watched_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a module's `__call__` is while some module is watched."""
    watchers = _around.get(id(self))
    return _call(self, *args, **kwargs) if watchers is None else _nested(list(watchers), self, args, kwargs)


def _nested(watchers: list[Around], module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The call in the blocks of all its watchers."""
    if not watchers:
        return _call(module, *args, **kwargs)
    with watchers.pop()(args, kwargs):
        return _nested(watchers, module, args, kwargs)
