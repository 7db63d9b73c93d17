"""What stands for an object of a file: a record of what the file says of it, with none of its code."""

from __future__ import annotations

from typing import Any, ClassVar


class StubClass(type):
    """The class of a name that the file asks for. To call it (a pickle's REDUCE) makes a record and runs nothing."""

    path: str
    calls: int

    def __call__(cls, *args: Any) -> Any:
        """Record a call, apart from the plain making of an object, which goes through `__new__` alone."""
        stub: Stub = cls.__new__(cls, *args)  # type: ignore[arg-type]
        stub.called = True
        cls.calls += 1
        return stub


class Stub(metaclass=StubClass):
    """What the file says of one object: the name of its class, its arguments, its state."""

    __slots__ = ("args", "called", "state")
    path: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any
    called: bool

    def __new__(cls, *args: Any) -> Stub:
        """Record the arguments."""
        stub = object.__new__(cls)
        stub.args, stub.state, stub.called = args, None, False
        return stub

    def __setstate__(self, state: Any) -> None:
        """Record the state."""
        self.state = state


def stub_class(path: str, base: type[Stub] = Stub) -> StubClass:
    """A class that stands for the global `path` of one file."""
    return StubClass("Stub", (base,), {"path": path, "calls": 0, "__slots__": ()})
