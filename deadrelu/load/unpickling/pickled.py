"""Read any pickle as a tree of plain values, stubs and tensor descriptions: nothing is imported, called or allocated.

Torch is not asked. So this also reads what torch would have to run: old whole modules, TorchScript's data, the index of
a sharded checkpoint.
"""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadrelu.errors import FileError
from deadrelu.load.unpickling.stub import Stub, StubClass, stub_class

LONGEST = 8 << 20
"""Pickles of more bytes (8 MiB) are not read: a tree takes up to eighty times as much memory."""

_LEGACY_PREAMBLE = 3
_AGAIN = "copy or download it again, or save it again"
# fmt: off
_DTYPES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
}
# fmt: on
"""The storage classes of torch (`FloatStorage`) and what they hold."""


@dataclass(frozen=True, eq=False, slots=True)
class Described:
    """A tensor as a pickle describes it: its values are not read."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds: `root`, and every global that it names, with whether it is called, in order of appearance.

    An object of a class is made without calling it, so its class does not count as called.
    """

    root: Any
    asks: Mapping[str, bool]


class Held(Stub):
    """A stub that also keeps what a pickle puts into it as into a list or a dictionary."""

    __slots__ = ("entries", "items")
    items: list[Any]
    entries: dict[Any, Any]

    def __new__(cls, *args: Any, **keywords: Any) -> Held:
        """Record the arguments."""
        stub = super().__new__(cls, *args, *keywords.values())
        assert isinstance(stub, Held)
        stub.items, stub.entries = [], {}
        return stub

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an entry."""
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """Keep an item."""
        self.items.append(value)

    add = append


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str


@dataclass(frozen=True, slots=True)
class _Pure:
    """A function that a pickle may call; not a function itself, so nothing can be set on it."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _tensor(storage: Any, _offset: Any, size: Any, _stride: Any, *rest: Any) -> Described:
    """`_rebuild_tensor_v2` and, with the dtype as the third of the rest, `_rebuild_tensor_v3`."""
    dtype = storage.dtype if isinstance(storage, _Storage) else "unknown"
    if len(rest) > 2 and isinstance(rest[2], StubClass):
        dtype = rest[2].path.removeprefix("torch.")
    return Described(_sizes(size), dtype)


def _meta_tensor(dtype: Any, size: Any, *_: Any) -> Described:
    return Described(_sizes(size), dtype.path.removeprefix("torch.") if isinstance(dtype, StubClass) else "unknown")


def _first(value: Any = None, *_: Any) -> Any:
    """A parameter is its data, a tagged TorchScript value the value."""
    return value


def _from_type(function: Any, _type: Any, args: Any, *_: Any) -> Any:
    """A subclass of Tensor, as the tensor that it is made from."""
    return function(*args) if isinstance(function, (_Pure, StubClass)) else None


def _dict(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    return dict(pairs)


def _set(values: Any = (), *_: Any) -> set[Any]:
    return set(values)


def _bytes(text: Any, *_: Any) -> bytes:
    """How the older protocols write bytes: as text, to be encoded in Latin 1."""
    return str(text).encode("latin1")


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape, of nothing but integers."""
    if not isinstance(value, (tuple, list)) or not all(type(size) is int and size >= 0 for size in value):
        raise pickle.UnpicklingError("a tensor whose shape is none")
    return tuple(value)


# What they stand for is pure, and so are these: they take any arguments and only put them in order.
_PURE: dict[Callable[..., Any], tuple[str, ...]] = {
    _dict: ("collections.OrderedDict",),
    _set: ("builtins.set", "builtins.frozenset"),
    _bytes: ("_codecs.encode",),
    _sizes: ("torch.Size",),
    _tensor: tuple(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "qtensor")),
    _meta_tensor: ("torch._utils._rebuild_meta_tensor_no_storage",),
    _from_type: ("torch._tensor._rebuild_from_type_v2",),
    _first: (
        *("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"),
        *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
        "torch.jit._pickle.restore_type_tag",
    ),
}
_READ = {path: _Pure(function) for function, paths in _PURE.items() for path in paths}


class _Reader(pickle._Unpickler):
    """Python's own unpickler, the one in Python: that in C lets a few bytes claim gigabytes for its memo.

    Its private name, seen on Python 3.10 to 3.14, is watched by a test.
    """

    stack: list[Any]

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.known: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for the global; nothing is looked up."""
        path = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if path not in self.known:
            self.known[path] = _READ.get(path) or stub_class(path, Held)
        return self.known[path]

    def get_extension(self, code: int) -> None:
        """Refuse what is in a registry of this process and not in the file."""
        raise pickle.UnpicklingError(f"extension {code}")

    def load_build(self) -> None:
        """Keep an object's state if it is a stub. Python's own would change whatever lies on the stack."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Held):
            self.stack[-1].__setstate__(state)

    # BYTEARRAY8 and NEXT_BUFFER read into a buffer that is made first, as large as the file says.
    dispatch = {  # type: ignore[assignment]
        code: read
        for code, read in pickle._Unpickler.dispatch.items()
        if code not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0])
    } | {pickle.BUILD[0]: load_build}

    def persistent_load(self, pid: Any) -> Any:
        """A storage by its type; anything else that stands outside of the pickle by its first word."""
        if isinstance(pid, tuple) and len(pid) > 1 and isinstance(pid[1], StubClass):
            if pid[0] == "storage":
                name = pid[1].path.rpartition(".")[2]
                return _Storage(_DTYPES.get(name.removesuffix("Storage"), name))
            return pid[1]  # a class of the old format, with its source code beside it
        return None


def read_pickle(content: bytes, where: str) -> Pickled:
    """Read one pickle; `where` names it in errors. Raises `FileError` if it is damaged or too long."""
    if len(content) > LONGEST:
        raise FileError(f"{where} is a pickle of {len(content)} bytes, too long to be drawn", hint="scan it instead")
    return _read(io.BytesIO(content), where)


def read_legacy(path: Path) -> Pickled:
    """Read the pickle of a file in torch's old format. Raises `FileError` if it is damaged."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(_LEGACY_PREAMBLE):  # the magic number, the protocol, the byte order: each its own pickle
            _read(mapped, str(path))
        return _read(mapped, str(path))


def _read(file: Any, where: str) -> Pickled:
    reader = _Reader(file)
    try:
        root = reader.load()
    except Exception as error:
        raise FileError(f"{where} is damaged: its pickle cannot be read", hint=_AGAIN) from error
    return Pickled(root, {name: bool(getattr(known, "calls", 0)) for name, known in reader.known.items()})


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a dictionary, a list, or a stub's own entries; keys that are not strings are written out."""
    if isinstance(value, Held):
        yield from members(value.entries)
        yield from members(value.items)
    elif isinstance(value, dict):
        yield from ((key if isinstance(key, str) else _short(key), inner) for key, inner in dict.items(value))
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), inner) for place, inner in enumerate(value))


def _short(key: Any) -> str:
    """A key as a name; Python does not write out integers of more than a few thousand digits."""
    try:
        return str(key)[:60] if isinstance(key, (int, float, bytes, type(None))) else type(key).__name__
    except ValueError:
        return "int"
