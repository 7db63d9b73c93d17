"""Which code of a model file may run, and the refusal where none may."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deadrelu.errors import FileError, TrustError

_SHOWN = 40
_OFFERED = 16
_NEVER_ALLOWED = ("__main__.", "torch.", "builtins.", "os.", "posix.", "nt.", "sys.", "subprocess.")


@dataclass(frozen=True)
class Trust:
    """What the user allows: any file (`all`), files by SHA-256 in hexadecimal, or single classes by dotted name."""

    all: bool = False
    sha256: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    def covers(self, sha256: str) -> bool:
        """Whether the file with this hash may run whatever code it asks for."""
        return self.all or sha256 in {given.strip().lower().removeprefix("sha256:") for given in self.sha256}

    def options(self) -> dict[str, object]:
        """The values by their long flags without the dashes."""
        return {"trust": self.all, "trust-sha256": self.sha256, "allow": self.allow}


@dataclass(frozen=True)
class Origin:
    """The file that is being opened: its path for messages, the hash of its bytes, and where to read those bytes."""

    path: Path
    sha256: str
    held: Path

    def refuse(self, why: str, names: Iterable[str] = ()) -> TrustError:
        """The refusal: `why` goes on from the file's path; `names` are the globals that --allow could name."""
        ways = [f"--trust runs whatever the file asks for; --trust-sha256 {self.sha256} does so for these bytes alone"]
        own = [name for name in names if name.startswith("__main__.")]
        other = [name for name in names if name and not name.startswith(_NEVER_ALLOWED)]
        if other:
            flags = " ".join(f"--allow {name}" for name in other[:_OFFERED])
            more = f" (and so on: {len(other)} in all)" if len(other) > _OFFERED else ""
            ways.append(f"{flags}{more} trusts {'one class' if len(other) == 1 else 'these classes alone'}")
        if own:
            ways.append(f"--arch FILE.py:{own[0].removeprefix('__main__.')} names the file that defines the class")
        return TrustError(f"{self.path} {why}", hint="; ".join(ways))

    def refuse_names(self, names: Iterable[str], note: str = "", *, allowable: bool = True) -> TrustError:
        """The refusal of a file that asks for these globals, each of them named (beyond forty, how many more).

        The hint offers --allow for them if they are `allowable`, the first one first.
        """
        given = list(names)
        listed = sorted(set(given))
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        return self.refuse(f"asks to run code: {', '.join(listed[:_SHOWN])}{more}{note}", given if allowable else ())


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file's bytes, in lower-case hexadecimal. Raises `FileError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", hint="check its permissions") from error
    return digest.hexdigest()
