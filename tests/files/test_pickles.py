"""A pickle that would fill the memory is refused before torch reads it."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deadrelu import open_model
from deadrelu.data.files import read_arrays
from deadrelu.errors import DataError, FileError
from deadrelu.files.pickles import check_fillings, check_pickle

HUGE = 8 << 30


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


def _file(path: Path, pickled: bytes, *, zipped: bool) -> Path:
    """A torch file with this pickle in it."""
    if zipped:
        torch.save({"w": torch.ones(2)}, path)
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members:
                archive.writestr(name, pickled if name.endswith("data.pkl") else content)
        return path
    torch.save({}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    at = content.rindex(b"\x80\x02}", 0, len(content) - 8)  # the object comes before the keys of its storages
    path.write_bytes(content[:at] + pickled + content[at:])
    return path


def _global(name: str) -> bytes:
    return b"c" + name.encode().replace(b".", b"\n") + b"\n"


_LONG = b"\x8a\x05" + HUGE.to_bytes(5, "little")
_REBUILD = b"ctorch._tensor\n_rebuild_from_type_v2\n"
PICKLES = {
    "a call": pickle.dumps({"a": _Call(bytearray, HUGE)}, 2),
    "bytes": pickle.dumps({"a": _Call(bytes, HUGE)}, 2),
    "under the name of Python 2": b"\x80\x02" + _global("__builtin__.bytearray") + _LONG + b"\x85R.",
    "the number from the memo": b"\x80\x02" + _LONG + b"q\x000" + _global("builtins.bytearray") + b"h\x00\x85R.",
    "the function from the memo": b"\x80\x02" + _global("builtins.bytearray") + b"q\x000h\x00" + _LONG + b"\x85R.",
    "arguments in a list": b"\x80\x02" + _global("builtins.bytearray") + b"]" + _LONG + b"aR.",
    "a marked tuple": b"\x80\x02" + _global("builtins.bytearray") + b"(" + _LONG + b"tR.",
    "by another function": b"\x80\x02" + _REBUILD + b"(" + _global("builtins.bytearray") + b"N" + _LONG + b"\x85NtR.",
    "by another, in a list": b"\x80\x02"
    + _REBUILD
    + b"]("
    + _global("builtins.bytearray")
    + b"N"
    + _LONG
    + b"\x85NeR.",
    "an unknown number": b"\x80\x02" + _global("builtins.bytearray") + _global("torch.Size") + b")R\x85R.",
    "a nested tuple": b"\x80\x02" + _REBUILD + b"N" + _global("builtins.bytearray") + _LONG + b"\x85\x86\x85\x86R.",
    "left on the stack": b"\x80\x02" + _global("builtins.bytearray") + _LONG + b"\x85R0}.",
    "by INST": b"\x80\x02(" + _LONG + b"ibuiltins\nbytearray\n.",
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PICKLES)
def test_memory_beyond_the_files_own_length_is_refused_before_it_is_taken(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    path = _file(tmp_path / "m.pt", PICKLES[name], zipped=zipped)
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=r"m\.pt asks for more memory than it is long"):
            open_model(path, arch="torch.nn:Identity")
        with pytest.raises(DataError, match="asks for more memory than it is long"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", range(5))
def test_each_pickle_of_the_old_format_is_checked(tmp_path: Path, place: int) -> None:
    path = tmp_path / "m.pt"
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    parts[place] = parts[place][:-1] + b"0" + PICKLES["a call"][2:]
    path.write_bytes(b"".join(parts))
    with pytest.raises(FileError, match="more memory"):
        check_fillings(path, str(path))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_byte_array_beside_weights_is_read(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path, weights = tmp_path / "m.pt", torch.ones(1 << 20)
    held = {"w": weights, "raw": bytearray(b"\xff\0bytearray"), "empty": bytearray(), "again": [bytearray(b"x")] * 2}
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    check_fillings(path, str(path))
    if protocol == 2:
        assert torch.equal(read_arrays(path)["w"], weights)  # type: ignore[call-overload]


def test_a_text_that_only_names_it_is_no_call(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "bytearray": 1 << 40, "note": "builtins\nbytes\n"}, tmp_path / "m.pt")
    check_fillings(tmp_path / "m.pt", "m.pt")


def test_tuples_that_nest_each_other_end_quickly() -> None:
    laughs = (
        b"\x80\x02" + _REBUILD + _LONG + b"\x85" + b"q\x00h\x00\x86" * 60 + _global("builtins.bytearray") + b"\x86R."
    )
    with pytest.raises(FileError, match="more memory"):
        check_pickle(laughs, "it")


def test_a_pickle_that_is_damaged_is_one_line() -> None:
    for broken in (b"", b"bytearray", b"\x80\x02cbuiltins\nbytearray\nR.", b"\x80\x02cbuiltins\nbytearray\ne."):
        with pytest.raises(FileError, match="its pickle cannot be read"):
            check_pickle(broken, "it")
    check_pickle(pickle.dumps({"a": [1, 2]}), "it")
