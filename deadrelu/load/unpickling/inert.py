"""Read a checkpoint as a tree of plain values, tensors and stubs; nothing that the file names is imported or called."""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deadrelu.errors import FileError
from deadrelu.files.archive import check_archive
from deadrelu.files.pickles import check_fillings
from deadrelu.load.sniff import FileKind
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.known import DICT_LIKE
from deadrelu.load.unpickling.stub import Stub, StubClass, stub_class
from deadrelu.text.wording import count

_SPARE_ELEMENTS = 1 << 24
_LEGACY_PREAMBLE = 3
_AGAIN = "copy or download it again, or save the model again with torch.save"


class _PlainDict:
    """Stands for a subclass of dict: to make one gives a plain dictionary."""

    def __new__(cls, *_: Any) -> Any:
        return {}


@dataclass(frozen=True)
class Tree:
    """What a checkpoint holds: `root`, the tree, and `names`, the globals in it that torch does not call safe.

    `called` are those of the names that the file calls, rather than makes an object of or merely mentions.
    """

    root: Any
    names: tuple[str, ...]
    called: tuple[str, ...] = ()


def read_tree(origin: Origin, kind: FileKind) -> Tree:
    """Read a torch zip or a legacy torch.save file without running any of it.

    Raises `FileError` if it is damaged or claims tensors that it does not hold, and `TrustError`, naming every global,
    if its pickle goes beyond what can be read without running it.
    """
    zipped = kind is FileKind.TORCH_ZIP
    records = check_archive(origin.held, named=origin.path) if zipped else None
    check_fillings(origin.held, str(origin.path))
    names = _globals(origin, zipped)
    stubs = [
        (
            _PlainDict if name in DICT_LIKE else stub_class(name),
            name,
        )
        for name in names
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stubs):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")
            root = torch.load(str(origin.held), weights_only=True, map_location="cpu", mmap=zipped)
        _check_tensors(origin, root, records)
    except pickle.UnpicklingError as error:
        if names:
            note = "" if zipped else " (a whole module in torch's old format cannot be read without running it)"
            raise origin.refuse_names(names, note) from error
        raise FileError(f"{origin.path} is damaged: its pickle cannot be read", hint=_AGAIN) from error
    except FileError:
        raise
    except Exception as error:
        raise FileError(
            f"{origin.path} is damaged: torch cannot read it ({type(error).__name__})", hint=_AGAIN
        ) from error
    return Tree(root, names, tuple(name for stub, name in stubs if isinstance(stub, StubClass) and stub.calls))


def _globals(origin: Origin, zipped: bool) -> tuple[str, ...]:
    """The globals that the pickle names and that torch does not call safe, sorted."""
    try:
        if zipped:
            return tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(origin.held))))
    except pickle.UnpicklingError:
        pass  # an instruction that torch does not read: name what can be named, for the refusal
    except Exception as error:
        raise FileError(
            f"{origin.path} is damaged: torch cannot read it ({type(error).__name__})", hint=_AGAIN
        ) from error
    try:
        listed = set(_listed(origin, zipped))
    except Exception as error:
        raise FileError(f"{origin.path} is damaged: its pickle cannot be read", hint=_AGAIN) from error
    return tuple(sorted(listed - plain_globals()))


def plain_globals() -> frozenset[str]:
    """The names that torch calls safe: what a pickle of plain values and tensors is made with."""
    return frozenset(torch._weights_only_unpickler._get_allowed_globals())


def _listed(origin: Origin, zipped: bool) -> Iterator[str]:
    """The globals of the file's pickle, read off its instructions."""
    if zipped:
        with zipfile.ZipFile(origin.held) as archive:
            pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
        yield from named_globals(pickletools.genops(pickled))
        return
    with origin.held.open("rb") as file:
        for _ in range(_LEGACY_PREAMBLE):  # the magic number, the protocol, the byte order: each its own pickle
            for _ in pickletools.genops(file):
                pass
        yield from named_globals(pickletools.genops(file))


def named_globals(instructions: Any) -> Iterator[str]:
    """The globals that the instructions push, under the names of Python 3."""
    recent: list[str] = []
    for instruction, argument, _ in instructions:
        if instruction.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".").replace("__builtin__.", "builtins.")
        elif instruction.name == "STACK_GLOBAL":
            yield ".".join(recent[-2:])
        elif isinstance(argument, str):
            recent = [*recent[-1:], argument]


def walk(root: Any) -> Iterator[Any]:
    """Every value in the tree once, in no promised order: tensors, stubs, plain values, and what contains them."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, dict):
            # Unbound, since a file may give an OrderedDict attributes that hide its methods.
            waiting.extend(inner for pair in dict.items(value) for inner in pair)
        elif isinstance(value, (list, tuple, set)):
            waiting.extend(value)
        elif isinstance(value, Stub):
            waiting.extend((value.args, value.state))


def _check_tensors(origin: Origin, root: Any, records: frozenset[int] | None) -> None:
    """Refuse tensors that are larger than the bytes in the file.

    A small expanded tensor (stride 0) is honest, and costs nothing; so a few million elements in all are let pass.
    """
    spare = _SPARE_ELEMENTS
    limit = origin.held.stat().st_size
    for value in walk(root):
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            continue
        if value.is_meta:
            raise FileError(f"{origin.path} holds a tensor without values (meta device)", hint=_AGAIN)
        held = value.untyped_storage().nbytes()
        if held > limit or (records is not None and held not in records and held > 0):
            raise FileError(
                f"{origin.path} claims a tensor of {count(held, 'byte')} that it does not hold", hint=_AGAIN
            )
        spare -= max(0, value.numel() - held // value.element_size())
        if spare < 0:
            raise FileError(
                f"{origin.path} claims tensors of more elements than it holds, one of shape {tuple(value.shape)}",
                hint=_AGAIN,
            )
