"""The members of a zip archive, read one by one within bounds; what of them is code."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import IO

from deadrelu.errors import FileError
from deadrelu.files.archive import without_checksums
from deadrelu.load.unpickling.pickled import LONGEST, Pickled, read_pickle
from deadrelu.report.inspection import CodeReference

_AGAIN = "copy or download it again, or save it again"
_MOST_PACKED = 400
_BOMB = 1 << 20
_CODE = {".py": "source", ".pkl": "pickle", ".so": "library", ".dll": "library", ".cpp": "source", ".cubin": "library"}


class Archive:
    """A zip whose members are read one by one, none beyond `LONGEST` bytes; close it with `with`."""

    def __init__(self, path: Path, *, named: Path | None = None) -> None:
        """Read the directory only; errors name the file `named`. Raises `FileError` if there is none."""
        self.path = named or path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise FileError(f"{self.path} is damaged: {error}", hint=_AGAIN) from error
        names = self._zip.namelist()
        root = names[0].split("/")[0] if names else ""
        self.root = f"{root}/" if all(name.startswith(f"{root}/") for name in names) else ""
        self.members = {info.filename.removeprefix(self.root): info.file_size for info in self._zip.infolist()}

    def __enter__(self) -> Archive:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A member as an open file. Raises `FileError`, also from the block, if it or a zip in it is damaged."""
        try:
            with self._zip.open(self._info(name)) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, ValueError) as error:
            # RuntimeError: it is encrypted, or (NotImplementedError) packed in a way that is not known.
            raise FileError(f"{self.path} is damaged in {name}: {error}", hint=_AGAIN) from error

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises `FileError` if it is damaged, too long, or holds more than it says."""
        with self.open(name) as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise FileError(f"{self.path}: {name} is of more than {LONGEST} bytes", hint="it is too long to be drawn")
        return content

    def _info(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member. Where torch was told to write no checksums, all are zero, and none is compared."""
        info = copy(self._zip.getinfo(self.root + name))
        if info.file_size > max(_BOMB, info.compress_size * _MOST_PACKED):
            raise FileError(f"{self.path} holds {name} packed beyond all measure, as a zip bomb does", hint=_AGAIN)
        if without_checksums(self._zip.infolist()):
            del info.CRC
        return info

    def pickle(self, name: str) -> Pickled:
        """A member that is a pickle, as a tree of stubs."""
        return read_pickle(self.read(name), f"{self.path}, {name},")


def asked_code(members: Mapping[str, int]) -> Iterator[CodeReference]:
    """The members that are code of some kind."""
    for name in members:
        what = _CODE.get(Path(name).suffix)
        if what is not None:
            yield CodeReference(name=name, what=what, runs=True)
