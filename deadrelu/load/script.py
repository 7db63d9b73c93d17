"""Open a TorchScript archive: say what it holds, and let torch run it where it is trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from deadrelu.errors import FileError
from deadrelu.files.archive import check_archive
from deadrelu.files.pickles import check_pickle
from deadrelu.load.members import Archive
from deadrelu.load.quiet import quiet
from deadrelu.load.traced import read_traced
from deadrelu.load.trust import Origin, Trust
from deadrelu.programs.code import blame
from deadrelu.programs.script.names import NAMES_FILE, Names
from deadrelu.programs.script.program import Example, TorchScriptProgram
from deadrelu.text.wording import count

_SHOWN = 6
_TRACED = "traced_inputs.pkl"
_NAMES = f"extra/{NAMES_FILE}"
_OF_TORCH = "code/__torch__/torch/"
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
    check_archive(origin.held, packed=("code/", "extra/"), named=origin.path)
    if not trust.covers(origin.sha256):
        raise origin.refuse(f"is a TorchScript archive, which is a program: {describe_script(origin)}")
    with Archive(origin.held, named=origin.path) as archive:
        notes = {name: archive.read(name) for name in (_TRACED, _NAMES) if name in archive.members}
        for name in archive.members:
            if name.endswith("pkl"):
                with archive.open(name) as file:
                    check_pickle(file.read(), f"{origin.path}, {name},")
    try:
        with quiet():
            module = torch.jit.load(str(origin.held), map_location="cpu")
    except Exception as error:  # the C++ reader of a damaged file raises also IndexError, KeyError and its like
        said = blame(error).replace(str(origin.held), str(origin.path))[:300]
        raise FileError(
            f"{origin.path} cannot be loaded as TorchScript: {said}",
            hint="it may be damaged, or need operators that this torch does not have",
        ) from error
    examples = read_traced(notes[_TRACED]) if _TRACED in notes else ()
    return Script(module, examples, Names.from_json(notes[_NAMES]) if _NAMES in notes else None)


def describe_script(origin: Origin) -> str:
    """What the archive holds that runs, in words; nothing of it does."""
    with Archive(origin.held, named=origin.path) as archive:
        files = [name for name in archive.members if name.startswith("code/") and name.endswith(".py")]
        code = {name: archive.read(name).decode(errors="replace") for name in files}
    own = sorted(name for name in code if not name.startswith(_OF_TORCH))
    classes = sorted({cls for name in own for cls in _CLASS.findall(code[name])})
    outside = sorted({name for text in code.values() for name in _OUTSIDE.findall(text)})
    on_load = sorted(name for name, text in code.items() if _RUNS_ON_LOAD.search(text))
    said = [
        f"{count(len(code), 'code file')} ({_listed(own) or 'all of them of torch.nn'})",
        f"{count(len(classes), 'class', 'classes')} ({_listed(classes)})" if classes else "",
        f"code that runs while it loads (__setstate__ in {_listed(on_load)})" if on_load else "",
        f"calls that reach outside the model ({_listed(outside)})" if outside else "",
    ]
    return "; ".join(filter(None, said))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
