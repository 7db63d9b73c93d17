"""Check the pickles of a torch file before torch reads them: whole, and with nothing that would fill the memory.

`torch.load(weights_only=True)` calls `bytearray` with any number that the file gives, and only then looks further: 400
bytes can cost gigabytes.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deadrelu.errors import FileError

_AGAIN = "copy or download it again, or save it again"
_LEGACY_PICKLES = 5
"""The old format has the magic number, the protocol, the byte order, the object, and the keys of its storages."""

_FILLED = (("builtins", "bytearray"), ("__builtin__", "bytearray"), ("builtins", "bytes"), ("__builtin__", "bytes"))
_WORDS = (b"bytearray", b"builtins\nbytes\n", b"builtin__\nbytes\n", b"\x05bytes", b"\x05\0\0\0bytes")
"""The bytes of a pickle that names one of them."""

_ANY = 1 << 63


def check_pickle(content: bytes, where: str) -> None:
    """Raise `FileError` if a pickle is damaged, or claims more than it has; `where` names it.

    Torch's readers allocate what it claims: places in the memo, and the lengths that `bytearray` and `bytes` are
    called with.
    """
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(argument)) > len(content):
                raise ValueError("a place in its memo beyond its own length")
        huge = _names_filled(content) and any(length > len(content) for length in _lengths(io.BytesIO(content)))
    except Exception as error:
        raise FileError(f"{where} is damaged: its pickle cannot be read", hint=_AGAIN) from error
    if huge:
        raise _huge(where)


def check_fillings(path: Path, where: str) -> None:
    """Raise `FileError` if a pickle in a torch file, zipped or in the old format, asks for more memory than it is long.

    `where` names the file. A pickle that cannot be followed to its end is left to its reader: what it calls up to
    there is checked.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"  # as torch tells; what looks like a zip at its end may be anything
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                pickled = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise FileError(f"{where} is damaged: {error}", hint=_AGAIN) from error
        for each in pickled:
            _check(each, where, 1)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check(content, where, _LEGACY_PICKLES)


def _check(content: Any, where: str, pickles: int) -> None:
    """Check pickles that follow each other."""
    if not _names_filled(content):
        return
    file = io.BytesIO(content)
    for _ in range(pickles):
        try:
            for length in _lengths(file):
                if length > len(content):
                    raise _huge(where)
        except FileError:
            raise
        except Exception:  # whatever a broken pickle makes of the reader: torch stops there, too
            return


def _names_filled(content: Any) -> bool:
    """Whether the bytes name a function that fills memory; nearly no file does, and to search is fast."""
    return any(content.find(word) >= 0 for word in _WORDS)


def _huge(where: str) -> FileError:
    return FileError(f"{where} asks for more memory than it is long, by a call of bytearray or bytes", hint=_AGAIN)


class _Filled:
    """Stands for `bytearray` or `bytes` on the stack."""


class _Encode:
    """Stands for `_codecs.encode`, by which the older protocols make the bytes that they hand to `bytearray`."""


def _lengths(file: Any) -> Iterator[int]:
    """How much memory each use of `bytearray` or `bytes` asks for; `_ANY` where it is anything but a plain call.

    The stack of the unpickler is followed as far as that takes: names, numbers, texts and tuples; all else is None.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        else:
            before = instruction.stack_before
            count = len(before)
            if pickletools.markobject in before:  # what lies below the mark, and all that lies above it
                count = before.index(pickletools.markobject) + len(stack) - marks.pop()
            if count > len(stack):
                raise ValueError("an instruction that takes more than there is")
            taken = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            yield _asked(name, argument, taken)
            stack.extend(_pushed(name, argument, taken) for _ in instruction.stack_after)


def _pushed(name: str, argument: Any, taken: list[Any]) -> Any:
    """What an instruction leaves on the stack, as far as it matters."""
    if name.startswith(("TUPLE", "EMPTY_TUPLE")):
        return tuple(taken)
    if name in ("GLOBAL", "STACK_GLOBAL"):
        path = tuple(argument.split(" ", 1)) if name == "GLOBAL" else tuple(taken)
        return _Filled if path in _FILLED else _Encode if path == ("_codecs", "encode") else None
    if name == "REDUCE" and taken[0] is _Encode:
        return b""
    return argument if isinstance(argument, (int, str, bytes)) and "PERSID" not in name else None


def _asked(name: str, argument: Any, taken: list[Any]) -> int:
    """How much memory one instruction asks for by `bytearray` or `bytes`.

    Pickle calls them with a text and its encoding, or with bytes. A value that cannot be seen from here may be a huge
    number, and a function that is handed one of the two may call it.
    """
    if name == "INST" and tuple(argument.split(" ", 1)) in _FILLED:
        return _ANY
    if name.startswith("TUPLE") or name in ("POP", "STOP", "POP_MARK") or _Filled not in _flat(taken):
        return 0
    arguments = taken[-1]
    if name != "REDUCE" or taken[0] is not _Filled or not isinstance(arguments, tuple):
        return _ANY
    if not all(isinstance(value, (int, str, bytes)) for value in arguments):
        return _ANY
    return max((value for value in arguments if isinstance(value, int)), default=0)


def _flat(values: list[Any]) -> list[Any]:
    """The values, and those in the tuples among them; each tuple once, since a pickle may nest them in each other."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting: list[Any] = list(values)
    while waiting:
        value = waiting.pop()
        if not isinstance(value, tuple):
            found.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value)
    return found
