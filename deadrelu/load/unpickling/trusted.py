"""Code that the user vouches for: classes allowed by name, and files that may run what they ask for."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from deadrelu.errors import ArchitectureError, TrustError
from deadrelu.load.quiet import quiet
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.rebuild import Code
from deadrelu.programs.code import blame, import_spec
from deadrelu.programs.packages import import_failure

_NEVER_MAPPED = ("torch.", "builtins.", "collections.", "numpy.")


def allowed_classes(names: Iterable[str], allow: Iterable[str]) -> dict[str, type[Any]]:
    """Import those of the classes named by --allow that the file asks for. Raises `TrustError` for other names."""
    found: dict[str, type[Any]] = {}
    for name in sorted(set(names) & set(allow)):
        module, _, attribute = name.rpartition(".")
        named = import_spec(f"{module}:{attribute}", error=ArchitectureError)[1]
        if not isinstance(named, type):
            raise TrustError(
                f"--allow {name}: it is not a class", hint="--allow takes classes; --trust runs everything"
            )
        found[name] = named
    return found


def mapped(names: Iterable[str], code: Mapping[str, Code]) -> dict[str, Code]:
    """The pickle names that the user's own code answers to.

    The module's name is not compared: a class that was pickled as `__main__.Net` or `train.Net` is now in `model.py`.
    """
    found: dict[str, Code] = {}
    for name in names:
        if name.startswith(_NEVER_MAPPED):
            continue
        fitting = [qualified for qualified in code if name.endswith(f".{qualified}")]
        if fitting:
            found[name] = code[max(fitting, key=len)]
    return found


def run_trusted(origin: Origin, code: Mapping[str, Code]) -> Any:
    """Unpickle the file, running whatever it asks for; `code` are the user's own classes by qualified name.

    Only for a file that `Trust.covers`. Raises `ArchitectureError` if the code that it needs cannot be found or raises.
    """

    class Unpickler(pickle.Unpickler):
        """Finds the user's classes first."""

        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            own = mapped([full], code)
            return own[full] if own else super().find_class(module, name)

    reader = ModuleType("deadrelu_trusted_pickle")
    vars(reader).update(vars(pickle) | {"Unpickler": Unpickler})
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        with quiet(), origin.held.open("rb") as file:
            # Only a zip can be mapped; and by name alone, torch.load would take *.safetensors for that format.
            mapped_in = zipfile.is_zipfile(file) and origin.held.suffix != ".safetensors"
            file.seek(0)
            return torch.load(
                str(origin.held) if mapped_in else file,
                map_location="cpu",
                weights_only=False,
                pickle_module=reader,
                mmap=mapped_in,
            )
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failure = import_failure(error, str(origin.path))
        if failure is not None and not isinstance(error, ModuleNotFoundError):  # what is missing may be the user's own
            raise ArchitectureError(failure[0], hint=failure[1]) from error
        raise ArchitectureError(
            f"{origin.path} cannot be unpickled: {blame(error)}",
            hint="run it where the model's code can be imported, or name the code with --arch FILE.py:Name",
        ) from error
    finally:
        if added:
            sys.path.remove(folder)


def check_whole(origin: Origin, module: nn.Module) -> None:
    """Raise `ArchitectureError` if a module in `module` has lost its parts in the pickle.

    Torch 2.13 saves a quantised convolution as a whole module, and cannot restore it.
    """
    waiting, seen = [module], set[int]()
    while waiting:
        inside = waiting.pop().__dict__
        for part in inside["_modules"].values():
            if part is not None and "_modules" not in part.__dict__:
                raise ArchitectureError(
                    f"{origin.path} holds a {type(part).__name__} that torch itself cannot restore: it comes back "
                    "without its parts",
                    hint="give the code that builds the model as MODEL instead: file.py:function",
                )
            if part is not None and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
