"""Whether a torch zip is whole and plausible: names, sizes and checksums, before torch reads any of it."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path

from deadrelu.errors import FileError

_AGAIN = "copy or download it again, or save the model again with torch.save"


def check_archive(path: Path) -> frozenset[int]:
    """Check the zip and return the sizes, in bytes, of its tensor records.

    Torch stores its members uncompressed and never repeats a name, so a file that does either is no work of
    `torch.save`. A bit flipped in a tensor goes unseen by `torch.load`; the checksums find it.

    Raises `FileError`, which names the member, for repeated names, compression, sizes beyond the file's own and damage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_directory(path, members)
            damaged = None if _without_checksums(members) else archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise FileError(f"{path} is damaged: {error}", hint=_AGAIN) from error
    if damaged is not None:
        raise FileError(f"{path} is damaged: the checksum of {damaged} does not match", hint=_AGAIN)
    return frozenset(member.file_size for member in members if "/data/" in member.filename)


def _check_directory(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """What the directory alone can tell; nothing is unpacked."""
    repeated = [name for name, times in Counter(member.filename for member in members).items() if times > 1]
    if repeated:
        raise FileError(f"{path} holds {repeated[0]} more than once, as no file of torch.save does", hint=_AGAIN)
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise FileError(
            f"{path} holds {packed[0]} compressed, as no file of torch.save does",
            hint="if it was zipped again by hand, zip it with `zip -0`, or save the model again with torch.save",
        )
    claimed, size = sum(member.file_size for member in members), path.stat().st_size
    if claimed > size:
        raise FileError(f"{path} claims {claimed} bytes of content in a file of {size} bytes", hint=_AGAIN)


def _without_checksums(members: list[zipfile.ZipInfo]) -> bool:
    """Whether it was written under `torch.serialization.set_crc32_options(False)`, which leaves every checksum zero."""
    return all(member.CRC == 0 for member in members)
