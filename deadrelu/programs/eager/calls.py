"""Hooks around the calls of modules: torch's own, or such as leave nothing on the module.

What is on a module goes into its copies and files. A model that someone else trains must not carry our hooks, so
`OnCalls` replaces `nn.Module.__call__` for as long as something is hooked, as torch.fx does while it traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

Around = Callable[[tuple[Any, ...], Mapping[str, Any]], AbstractContextManager[object]]
"""Makes the block around one call, from its arguments."""

Before = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], None]
After = Callable[[nn.Module, tuple[Any, ...], Any], None]


class Handle(Protocol):
    """What takes a hook off again; more than once does no harm."""

    def remove(self) -> None:
        """Take it off."""


class Hooks(Protocol):
    """Where hooks are kept."""

    def before(self, module: nn.Module, hook: Before) -> Handle:
        """Call `hook` with the module and its arguments before each call."""

    def after(self, module: nn.Module, hook: After) -> Handle:
        """Call `hook` with the module, its arguments and its output after each call."""


class OnModules:
    """Torch's own hooks."""

    def before(self, module: nn.Module, hook: Before) -> Handle:
        """Register a forward pre-hook."""
        return module.register_forward_pre_hook(hook, with_kwargs=True)

    def after(self, module: nn.Module, hook: After) -> Handle:
        """Register a forward hook."""
        return module.register_forward_hook(hook)


class OnCalls:
    """Hooks of which nothing is on the modules."""

    def before(self, module: nn.Module, hook: Before) -> Handle:
        """Call `hook` before each call."""
        return _added(module, "before", hook)

    def after(self, module: nn.Module, hook: After) -> Handle:
        """Call `hook` after each call."""
        return _added(module, "after", hook)


ON_MODULES, ON_CALLS = OnModules(), OnCalls()


@contextmanager
def around_calls(module: nn.Module, around: Around) -> Iterator[None]:
    """Run `around` around each call of `module`, in any thread, until the block is left."""
    handle = _added(module, "around", around)
    try:
        yield
    finally:
        handle.remove()


@dataclass
class _Hooked:
    """The hooks of one module."""

    around: list[Around] = field(default_factory=list)
    before: list[Before] = field(default_factory=list)
    after: list[After] = field(default_factory=list)


@dataclass
class _Added:
    """A hook that can be taken off."""

    module: int
    kind: str
    hook: Any

    def remove(self) -> None:
        hooked = _hooked.get(self.module)
        if hooked is None or self.hook not in getattr(hooked, self.kind):
            return
        getattr(hooked, self.kind).remove(self.hook)
        if hooked == _Hooked():
            del _hooked[self.module]
        if not _hooked:
            nn.Module.__call__ = _call  # type: ignore[method-assign]


_call = nn.Module.__call__
_hooked: dict[int, _Hooked] = {}


def _added(module: nn.Module, kind: str, hook: Any) -> _Added:
    if not _hooked:
        nn.Module.__call__ = _hooked_call  # type: ignore[method-assign]
    getattr(_hooked.setdefault(id(module), _Hooked()), kind).append(hook)
    return _Added(id(module), kind, hook)


def _hooked_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a module's `__call__` is while some module is hooked."""
    hooked = _hooked.get(id(self))
    if hooked is None:
        return _call(self, *args, **kwargs)
    return _nested([*hooked.around], hooked, self, args, kwargs)


def _nested(
    around: list[Around], hooked: _Hooked, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The call between its hooks, and in the blocks around it."""
    if around:
        with around.pop()(args, kwargs):
            return _nested(around, hooked, module, args, kwargs)
    for before in hooked.before:
        before(module, args, kwargs)
    output = _call(module, *args, **kwargs)
    for after in hooked.after:
        after(module, args, output)
    return output
