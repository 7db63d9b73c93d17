"""Open a torch.export program (`.pt2`): screen what it holds, and let torch load it where it is trusted."""

from __future__ import annotations

import json
import logging
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from deadrelu.errors import FileError
from deadrelu.files.archive import check_archive
from deadrelu.load.members import Archive
from deadrelu.load.quiet import quiet
from deadrelu.load.trust import Origin, Trust
from deadrelu.load.unpickling.inert import named_globals, plain_globals
from deadrelu.load.unpickling.pickled import LONGEST
from deadrelu.text.wording import count

_SHOWN = 6
_PLAIN = re.compile(r"(?:[\w\s+*/%(),<>=!&|~-]|(?<=\d)\.|'\w+')*")
_KNOWN = {
    *("Integer", "Symbol", "Float", "Rational", "Max", "Min", "Mod", "Pow", "Add", "Mul", "Eq", "Ne", "Le", "Lt", "Ge"),
    *("Gt", "And", "Or", "Not", "FloorDiv", "CeilDiv", "CleanDiv", "PythonMod", "ModularIndexing", "ToFloat", "Where"),
    *("IntTrueDiv", "FloatTrueDiv", "TruncToInt", "FloorToInt", "CeilToInt", "Identity", "Piecewise", "sqrt", "floor"),
}
_CALLED = re.compile(r"([A-Za-z_]\w*)\s*\(")
_EXPRESSIONS = ("expr_str", "guards_code")


def open_export(origin: Origin, trust: Trust) -> torch.export.ExportedProgram:
    """Load the program, if it is trusted: its inputs are a pickle, and its shapes and guards are evaluated as code.

    Raises `TrustError`, which names what the screen found, and `FileError` for a damaged file.
    """
    check_archive(origin.held, named=origin.path)
    if not trust.covers(origin.sha256):
        found = "; ".join(screen(origin)) or "nothing beyond its graph and weights was found"
        raise origin.refuse(f"is a torch.export program, which runs code when it is loaded: {found}")
    try:
        with quiet(), _without_logging():
            return torch.export.load(str(origin.held))
    except Exception as error:  # whatever a broken or newer graph makes torch's reader raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        said = said.replace(str(origin.held), str(origin.path))
        raise FileError(
            f"{origin.path} cannot be loaded as a torch.export program: {said}",
            hint=f"it may be damaged, or saved by a torch that {torch.__version__} cannot read",
        ) from error


@contextmanager
def _without_logging() -> Iterator[None]:
    """Torch's reader logs a traceback, with a broken format, where inputs are of classes that it has to unpickle."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def screen(origin: Origin) -> list[str]:
    """What in the file runs when it is loaded or called, in words, the gravest first; nothing of it does here.

    A pickle that asks for more than tensors, expressions that are not arithmetic, guards, native libraries.
    """
    grave: list[str] = []
    usual: list[str] = []
    with Archive(origin.held, named=origin.path) as archive:
        for name in archive.members:
            if name.startswith("data/aotinductor/") or name.endswith((".so", ".dll", ".dylib", ".cubin")):
                grave.append(f"a native library ({name})")
            elif name.startswith(("data/sample_inputs/", "data/constants/", "data/weights/")):
                _screen_pickle(archive, name, grave, usual)
            elif name.endswith(".json"):
                _screen_json(archive, name, grave, usual)
    return grave + usual


def _screen_pickle(archive: Archive, name: str, grave: list[str], usual: list[str]) -> None:
    """Name what the pickle of a member asks for; raw tensor bytes are none."""
    with archive.open(name) as file:
        head = file.read(4)
        if head == b"PK\3\4":
            file.seek(0)
            with zipfile.ZipFile(file) as inner:
                held = next((member for member in inner.namelist() if member.endswith("data.pkl")), None)
                pickled = inner.open(held).read(LONGEST + 1) if held is not None else b""
        elif head.startswith(b"\x80") and name.endswith(".pt"):
            pickled = head + file.read(LONGEST)
        elif "custom_obj" in name:
            grave.append(f"a custom object ({name})")
            return
        else:
            return
    if len(pickled) > LONGEST:
        grave.append(f"a pickle too long to be looked through ({name})")
        return
    if strange := _globals(pickled):
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        grave.append(f"a pickle that asks for {', '.join(strange[:_SHOWN])}{more} ({name})")
    else:
        usual.append(f"a pickle ({name})")


def _globals(pickled: bytes) -> list[str]:
    """The names that a pickle asks for beyond plain values and tensors, as far as it can be read."""
    found = set()
    try:
        for name in named_globals(pickletools.genops(pickled)):
            found.add(name)
    except (ValueError, IndexError):
        found.add("what cannot be read")
    return sorted(found - plain_globals())


def _screen_json(archive: Archive, name: str, grave: list[str], usual: list[str]) -> None:
    """Name the expressions that torch will evaluate."""
    try:
        texts = list(_expressions(json.loads(archive.read(name))))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{archive.path} is damaged: {name} is not JSON", hint="copy or download it again") from error
    strange = [text for text in texts if not _is_arithmetic(text)]
    if strange:
        found = count(len(strange), "expression that is not arithmetic", "expressions that are not arithmetic")
        grave.append(f"{found}, such as {strange[0][:80]!r} ({name})")
    elif texts:
        usual.append(f"{count(len(texts), 'expression')} over sizes ({name})")


def _is_arithmetic(text: str) -> bool:
    """Whether an expression is made of numbers, names and torch's functions of sizes alone."""
    return (
        _PLAIN.fullmatch(text) is not None
        and "__" not in text
        and all(name in _KNOWN for name in _CALLED.findall(text))
    )


def _expressions(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in _EXPRESSIONS:
                    yield from (str(text) for text in (inner if isinstance(inner, list) else [inner]) if text)
                else:
                    waiting.append(inner)
        elif isinstance(value, list):
            waiting.extend(value)
