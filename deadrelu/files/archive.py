"""Whether a torch zip is whole and plausible: names, sizes and checksums, before torch reads any of it."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from deadrelu.errors import FileError

_MOST_UNPACKED = 1 << 28
"""By how many bytes compressed members may grow in all: they are code, and no code is longer."""

_END_RECORD = 22 + 65535 + 76
"""The end record of a zip, its comment, and the two records that a long zip has before it."""

_IN_ZIP64 = 0xFFFF
_FOLDER = 0x10
_AGAIN = "copy or download it again, or save the model again with torch.save"


def check_archive(path: Path, packed: tuple[str, ...] = (), *, named: Path | None = None) -> frozenset[int]:
    """Check the zip and return the sizes, in bytes, of its tensor records; errors name it `named`, or else `path`.

    Torch stores its members uncompressed, but for those under the folders `packed`, and never repeats a name, so a file
    that does otherwise was not written by torch. A bit flipped in a tensor goes unseen by `torch.load`; the checksums
    find it.

    Raises `FileError`, which names the member, for repeated names, compression, sizes beyond the file's own and damage.
    """
    try:
        with path.open("rb") as file:
            return check_stream(file, str(named or path), path.stat().st_size, packed)
    except OSError as error:
        raise FileError(f"{named or path} is damaged: {error}", hint=_AGAIN) from error


def check_stream(file: IO[bytes], path: str, size: int, packed: tuple[str, ...] = ()) -> frozenset[int]:
    """Check a torch zip of `size` bytes in an open file, as `check_archive` does; `path` names it in errors."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_entries(file, members)
            _check_directory(path, members, size, packed)
            damaged = None if without_checksums(members) else archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise FileError(f"{path} is damaged: {error}", hint=_AGAIN) from error
    if damaged is not None:
        raise FileError(f"{path} is damaged: the checksum of {damaged} does not match", hint=_AGAIN)
    return frozenset(member.file_size for member in members if "/data/" in member.filename)


def _check_directory(path: str, members: list[zipfile.ZipInfo], size: int, folders: tuple[str, ...]) -> None:
    """What the directory alone can tell; nothing is unpacked."""
    repeated = [name for name, times in Counter(member.filename for member in members).items() if times > 1]
    if repeated:
        raise FileError(f"{path} holds {repeated[0]} more than once, as no file of torch.save does", hint=_AGAIN)
    squeezed = [member for member in members if member.compress_type != zipfile.ZIP_STORED]
    packed = [m.filename for m in squeezed if not (folders and m.filename.partition("/")[2].startswith(folders))]
    if packed:
        raise FileError(
            f"{path} holds {packed[0]} compressed, as no file of torch.save does",
            hint="if it was zipped again by hand, zip it with `zip -0`, or save the model again with torch.save",
        )
    claimed = sum(member.file_size for member in members)
    claimed -= min(_MOST_UNPACKED, sum(member.file_size - member.compress_size for member in squeezed))
    if claimed > size:
        raise FileError(f"{path} claims {claimed} bytes of content in a file of {size} bytes", hint=_AGAIN)


def check_entries(file: IO[bytes], members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise `BadZipFile` if the directory contradicts itself: in how many members it has, how long one is, or what.

    One flipped bit in a directory entry can make it swallow those that follow, and `zipfile` lets that pass.
    """
    file.seek(0, 2)
    start = max(0, file.tell() - _END_RECORD)
    file.seek(start)
    tail = file.read(_END_RECORD)
    end = tail.rfind(b"PK\5\6")
    counted = int.from_bytes(tail[end + 10 : end + 12], "little") if end >= 0 else 0
    if counted == _IN_ZIP64:
        end = tail.rfind(b"PK\6\6")
        counted = int.from_bytes(tail[end + 32 : end + 40], "little") if end >= 0 else counted
    if counted != len(members) or not members:
        raise zipfile.BadZipFile(f"its end counts {counted} members, and its directory has {len(members)}")
    for member in members:
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} has two sizes")
        if member.external_attr & _FOLDER and not member.is_dir():
            # Torch's reader takes it for a folder, and gives whatever lay in memory for its bytes.
            raise zipfile.BadZipFile(f"{member.filename} is marked as a folder")


def without_checksums(members: list[zipfile.ZipInfo]) -> bool:
    """Whether it was written under `torch.serialization.set_crc32_options(False)`, which leaves every checksum zero."""
    return all(member.CRC == 0 for member in members)
