"""Build a module from `--arch`: the user's own code, or a name known to timm, torchvision or transformers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from deadrelu.errors import ArchitectureError
from deadrelu.load.architecture.constructor import Constructor, check_names, constructor_of, missing_arguments
from deadrelu.load.extras import extra
from deadrelu.load.pretrained import from_config
from deadrelu.load.weights import shortened
from deadrelu.programs import code
from deadrelu.programs.packages import explain_imports
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr
from deadrelu.text.spelling import did_you_mean

_PACKAGES = {"timm:": "timm", "torchvision:": "torchvision", "hf:": "transformers"}
_HUBS = tuple(_PACKAGES)
_COMMON = ("num_classes", "in_chans", "drop_rate", "dropout", "global_pool", "img_size")
"""What the models of hubs take through `**kwargs`, where no signature names it."""

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def is_hub(spec: str) -> bool:
    """Whether `spec` names a model of timm, torchvision or transformers, and no code of the user's."""
    return spec.startswith(_HUBS)


def is_spec(text: str) -> bool:
    """Whether `text` reads as a model's code: `file.py[:Name]`, `package.module:Name`, `timm:…` and the other hubs."""
    return text.startswith(_HUBS) or code.is_import_spec(text)


def build(spec: str, arguments: Mapping[str, object]) -> nn.Module:
    """The module that `spec` names, built with `arguments` as keywords, on the CPU and with its initial weights.

    Raises `ArchitectureError` if it cannot be imported or built, or if it is not a module.
    """
    name = spec.partition(":")[2]
    if spec.startswith("timm:"):
        timm = extra("timm")
        return _call(spec, lambda: timm.create_model(name, pretrained=False, **arguments), lambda: timm.list_models())
    if spec.startswith("torchvision:"):
        models = extra("torchvision.models")
        return _call(spec, lambda: models.get_model(name, weights=None, **arguments), lambda: models.list_models())
    if spec.startswith("hf:"):
        return _call(spec, lambda: from_config(Path(name), arguments))
    target = _target(spec)
    if isinstance(target, nn.Module):
        if arguments:
            raise ArchitectureError(f"{spec} is a module already", hint="name its class to build it with --arch-arg")
        return target
    if not callable(target):
        raise ArchitectureError(
            f"{spec} is a {type(target).__name__}",
            hint="name an nn.Module class, a function that returns one, or a module",
        )
    if (made_by := constructor_of(target)) is not None:
        check_names(spec, made_by, arguments)
        if (error := missing_arguments(spec, made_by, arguments)) is not None:
            raise error
    return _call(spec, lambda: target(**arguments))


def constructor(spec: str) -> Constructor | None:
    """The arguments of the user's code that `spec` names; None for a hub's model, and where it takes none."""
    target = None if spec.startswith(_HUBS) else _target(spec)
    return constructor_of(target) if callable(target) and not isinstance(target, nn.Module) else None


def _target(spec: str) -> object:
    """What the user's code has under the name; without one, its only module class."""
    module, named = code.import_spec(spec, error=ArchitectureError)
    return _only_module_class(module, spec) if named is None else named


def code_in(spec: str) -> dict[str, Any]:
    """The classes and functions of the file or module that `spec` names, by qualified name: the user vouches."""
    if spec.startswith(_HUBS):
        return {}
    module, named = code.import_spec(spec, error=ArchitectureError)
    found = dict(_defined(vars(module), module))
    if inspect.isclass(named):
        found[named.__qualname__] = named
    return found


def named_class(spec: str) -> type[nn.Module] | None:
    """The module class that `spec` names, or None if it names something else or leaves the name out."""
    if spec.startswith(_HUBS):
        return None
    named = code.import_spec(spec, error=ArchitectureError)[1]
    return named if inspect.isclass(named) and issubclass(named, nn.Module) else None


def _defined(names: Mapping[str, object], module: ModuleType) -> list[tuple[str, Any]]:
    """Classes, the classes inside them, and functions that `module` defines itself."""
    found: list[tuple[str, Any]] = []
    for value in names.values():
        if isinstance(value, (type, FunctionType)) and value.__module__ == module.__name__:
            found.append((value.__qualname__, value))
            if isinstance(value, type):
                found.extend(_defined({k: v for k, v in vars(value).items() if isinstance(v, type)}, module))
    return found


def _only_module_class(module: ModuleType, spec: str) -> object:
    """The one nn.Module class that a file defines."""
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if len(names) == 1:
        return getattr(module, names[0])
    if not names:
        raise ArchitectureError(f"{spec} defines no nn.Module class", hint=f"name a function in it: {spec}:NAME")
    raise ArchitectureError(f"{spec} defines {', '.join(names)}", hint=f"choose one: {spec}:{names[-1]}")


def _call(spec: str, make: Callable[[], object], known: Callable[[], Iterable[str]] = tuple) -> nn.Module:
    """Run the user's or the hub's code; what it prints does not go to stdout.

    `known` lists the names that the hub has.
    """
    hub, _, name = spec.partition(":")
    package = _PACKAGES.get(f"{hub}:", hub)

    def failed(why: str) -> ArchitectureError:
        if name not in (names := list(known())) and names:
            near = did_you_mean(name, names, write=f"{hub}:{{}}")
            return ArchitectureError(f"{package} has no model {name!r}", hint=near or f"it has {shortened(names)}")
        wrong = _UNEXPECTED.search(why)
        near = did_you_mean(wrong[1], _COMMON, write="--arch-arg {}=VALUE") if wrong else ""
        return ArchitectureError(
            f"{spec} cannot be built: {why}",
            hint=near
            or "check the values of --arch-arg NAME=VALUE; --arch also takes a function that builds it: FILE.py:NAME",
        )

    with code.users_code(failed), stdout_on_stderr(), in_users_folder(), explain_imports(package, ArchitectureError):
        made = make()
    if not isinstance(made, nn.Module):
        raise ArchitectureError(
            f"{spec} gave a {type(made).__name__}, not an nn.Module", hint="return the model from it"
        )
    if not hasattr(made, "_parameters"):
        raise ArchitectureError(f"{type(made).__name__} is not set up", hint="call super().__init__() in its __init__")
    return made
