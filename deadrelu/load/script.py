"""Open a TorchScript archive: say what it holds, and let torch run it where it is trusted."""

from __future__ import annotations

import re
import sys
import zipfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch

from deadrelu.errors import FileError
from deadrelu.load.archive import check_archive
from deadrelu.load.traced import read_traced
from deadrelu.load.trust import Origin, Trust
from deadrelu.programs.scriptnames import NAMES_FILE, Names
from deadrelu.programs.torchscript import Example, TorchScriptProgram

_SHOWN = 6
_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
_RUNS_ON_LOAD = re.compile(r"^  def __setstate__\(", re.MULTILINE)
_OUTSIDE = re.compile(
    r"\b(torch\.(?:save|from_file)|ops\.(?!aten|prim|prims|quantized\b)\w+\.\w+|torch\.classes\.[\w.]+)"
)


@dataclass(frozen=True)
class Script:
    """A loaded archive, and what it remembers: the inputs of its tracing, and the names of its patched sites."""

    module: torch.jit.ScriptModule
    examples: tuple[Example, ...]
    names: Names | None

    def program(self, device: torch.device | None) -> TorchScriptProgram:
        """The program on a device."""
        return TorchScriptProgram(self.module, device, examples=self.examples, names=self.names)


def open_script(origin: Origin, trust: Trust) -> Script:
    """Load the archive, if it is trusted: to load TorchScript is to run it.

    Raises `TrustError`, which names what the archive holds, and `FileError` for a damaged one.
    """
    check_archive(origin.path, packed=("code/", "extra/"))
    if not trust.covers(origin.sha256):
        raise origin.refuse(f"is a TorchScript archive, which is a program: {describe_script(origin.path)}")
    with zipfile.ZipFile(origin.path) as archive:
        members = {_inside(name): archive.read(name) for name in archive.namelist() if _is_note(name)}
    try:
        with redirect_stdout(sys.stderr):
            module = torch.jit.load(str(origin.path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise FileError(
            f"{origin.path} cannot be loaded as TorchScript: {str(error).strip().splitlines()[0]}",
            hint="it may be damaged, or need operators that this torch does not have",
        ) from error
    traced, names = members.get("traced_inputs.pkl"), members.get(f"extra/{NAMES_FILE}")
    return Script(module, read_traced(traced) if traced else (), Names.from_json(names) if names else None)


def describe_script(path: Path) -> str:
    """What the archive holds that runs, in words; nothing of it does."""
    with zipfile.ZipFile(path) as archive:
        code = {
            _inside(name): archive.read(name).decode(errors="replace")
            for name in archive.namelist()
            if _inside(name).startswith("code/") and name.endswith(".py")
        }
    classes = sorted({name for text in code.values() for name in _CLASS.findall(text)})
    outside = sorted({name for text in code.values() for name in _OUTSIDE.findall(text)})
    on_load = sorted(name for name, text in code.items() if _RUNS_ON_LOAD.search(text))
    said = [
        f"{_count(code, 'code file')} ({_listed(sorted(code))})",
        f"{_count(classes, 'class', 'es')} ({_listed(classes)})" if classes else "",
        f"code that runs while it loads (__setstate__ in {_listed(on_load)})" if on_load else "",
        f"calls that reach outside the model ({_listed(outside)})" if outside else "",
    ]
    return "; ".join(filter(None, said))


def _is_note(name: str) -> bool:
    return _inside(name) in ("traced_inputs.pkl", f"extra/{NAMES_FILE}")


def _inside(name: str) -> str:
    """A member's name without the archive's root folder."""
    return name.partition("/")[2]


def _count(things: object, noun: str, plural: str = "s") -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {noun}{'' if number == 1 else plural}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
