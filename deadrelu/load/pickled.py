"""Read any pickle as a tree of plain values, stubs and tensor descriptions: nothing is imported, called or allocated.

Torch is not asked. So this also reads what torch would have to run: old whole modules, TorchScript's data, the index of
a sharded checkpoint.
"""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadrelu.errors import FileError
from deadrelu.load.stub import Stub, StubClass, stub_class

LONGEST = 1 << 26
"""Pickles of more bytes (64 MiB) are not read: a tree takes up to a hundred times as much memory."""

_LEGACY_PREAMBLE = 3
_AGAIN = "copy or download it again, or save it again"
_DTYPES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "bytes", "QInt8Storage": "qint8"},
    **{"QUInt8Storage": "quint8", "QInt32Storage": "qint32", "ComplexFloatStorage": "complex64"},
    **{"ComplexDoubleStorage": "complex128"},
}


@dataclass(frozen=True, eq=False)
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
        stub = super().__new__(cls, *args, **keywords)
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


class _Dict(dict[Any, Any]):
    """An OrderedDict of the file; what attributes it carries are left out."""

    def __setstate__(self, state: Any) -> None:
        """Leave the attributes out."""


@dataclass(frozen=True)
class _Storage:
    dtype: str


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


def _dict(pairs: Any = (), *_: Any) -> _Dict:
    return _Dict(pairs if isinstance(pairs, (list, tuple, dict)) else ())


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape, of nothing but integers."""
    if not isinstance(value, (tuple, list)) or not all(type(size) is int and size >= 0 for size in value):
        raise pickle.UnpicklingError("a tensor whose shape is none")
    return tuple(value)


# What they stand for is pure, and so are these: they take any arguments and only put them in order.
_READ = {
    "collections.OrderedDict": _dict,
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_qtensor": _tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}


class _Reader(pickle._Unpickler):
    """Python's own unpickler, the one in Python: that in C lets a few bytes claim gigabytes for its memo.

    Its private name, seen on Python 3.10 to 3.14, is watched by a test.
    """

    # These two read into a buffer that is made first, as large as the file says.
    dispatch = {  # noqa: RUF012  it is the base's own name for its table
        code: read
        for code, read in pickle._Unpickler.dispatch.items()
        if code not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0])
    }

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
        """Refuse what stands in a registry of this process and not in the file."""
        raise pickle.UnpicklingError(f"extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage by its type; anything else that stands outside of the pickle by its first word."""
        if isinstance(pid, tuple) and len(pid) > 1 and isinstance(pid[1], StubClass):
            if pid[0] == "storage":
                return _Storage(_DTYPES.get(pid[1].path.rpartition(".")[2], pid[1].path))
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
    """The named parts of a dictionary, a list, or a stub's own entries; keys that are no strings are written out."""
    if isinstance(value, Held):
        yield from members(value.entries)
        yield from members(value.items)
    elif isinstance(value, dict):
        yield from ((key if isinstance(key, str) else _short(key), inner) for key, inner in dict.items(value))
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), inner) for place, inner in enumerate(value))


def _short(key: Any) -> str:
    return str(key) if isinstance(key, (bool, int, float)) and not isinstance(key, int | float) else _safe(key)


def _safe(key: Any) -> str:
    try:
        return repr(key)[:60] if isinstance(key, (str, bytes, int, float, bool, type(None))) else type(key).__name__
    except ValueError:  # Python does not write out integers of more than a few thousand digits
        return "int"
