"""What the code behind `--arch` takes: the names of its arguments, and what to write where one has to be an object."""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadrelu.errors import ArchitectureError
from deadrelu.text.spelling import did_you_mean

_PLAIN = (bool, int, float, str, list, tuple, dict)
_OBJECTS = ("backbone", "cfg", "config", "decoder", "encoder", "model", "module", "net", "network")
_LONE_OBJECTS = (*_OBJECTS, "args", "block", "body", "hparams", "layer", "opt", "options", "opts", "params", "vocab")
_SIZES = ("d", "dim", "n", "num", "size")
"""What parameters without an annotation are called that take an object, as their last word or alone; not `d_model`."""

_GIVEN_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Constructor:
    """The arguments of a class or function: `parameters` by name, `takes_any` if it has `**kwargs` too.

    `home` is the module that defines it; `is_lightning` whether it is a LightningModule.
    """

    name: str
    home: str
    parameters: Mapping[str, inspect.Parameter]
    takes_any: bool
    is_lightning: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """The arguments that have no default."""
        return tuple(name for name, each in self.parameters.items() if each.default is inspect.Parameter.empty)

    def lacking(self, arguments: Mapping[str, object]) -> tuple[str, ...]:
        """The required arguments that are not given."""
        return tuple(name for name in self.required if name not in arguments)

    def objects(self) -> dict[str, Any]:
        """The required arguments that JSON cannot give, with their annotation (empty if there is none)."""
        return {
            name: self.parameters[name].annotation for name in self.required if not _is_plain(self.parameters[name])
        }


def constructor_of(target: Callable[..., object]) -> Constructor | None:
    """The arguments of a class or function; None where Python cannot tell."""
    try:
        signature = inspect.signature(target, eval_str=True)
    except Exception:  # an annotation may be any text, and its evaluation raise anything
        try:
            signature = inspect.signature(target)
        except (TypeError, ValueError):
            return None
    kinds = [each.kind for each in signature.parameters.values()]
    return Constructor(
        name=getattr(target, "__qualname__", type(target).__name__),
        home=getattr(target, "__module__", "") or "",
        parameters={name: each for name, each in signature.parameters.items() if each.kind in _GIVEN_BY_KEYWORD},
        takes_any=inspect.Parameter.VAR_KEYWORD in kinds,
        is_lightning=any(base.__name__ == "LightningModule" for base in getattr(target, "__mro__", ())),
    )


def check_names(spec: str, made_by: Constructor, arguments: Mapping[str, object]) -> None:
    """Raise `ArchitectureError` for an argument that the constructor does not take."""
    if made_by.takes_any:
        return
    for name in arguments:
        if name not in made_by.parameters:
            takes = ", ".join(made_by.parameters) or "no arguments"
            near = did_you_mean(name, made_by.parameters, write="--arch-arg {}=VALUE")
            raise ArchitectureError(f"{spec} takes no argument {name!r}", hint=f"{near} it takes {takes}".strip())


def missing_arguments(spec: str, made_by: Constructor, arguments: Mapping[str, object]) -> ArchitectureError | None:
    """The error for required arguments that are not given: how to give them, or how to do without; None if all are."""
    lacking = made_by.lacking(arguments)
    if not lacking:
        return None
    objects = {name: kind for name, kind in made_by.objects().items() if name in lacking}
    if objects:
        file = _new_file(spec, made_by)
        return ArchitectureError(
            f"{spec} needs {_listed(objects)}, {'an object' if len(objects) == 1 else 'objects'} that JSON cannot give",
            hint=f"--arch also takes a function: write {file} as below, and give --arch {file}:make_model",
            example=_example(spec, file, made_by, arguments),
        )
    flags = " ".join(f"--arch-arg {name}={_sample(made_by.parameters[name])}" for name in lacking)
    return ArchitectureError(f"{spec} needs {_listed(lacking)}", hint=f"add {flags}")


def _listed(names: typing.Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _new_file(spec: str, made_by: Constructor) -> Path:
    """Where a function that builds the model can import its class: beside it, or where its package is."""
    target = spec.partition(":")[0]
    folder = Path(target).parent if target.endswith(".py") and "." not in made_by.home else Path()
    return folder / f"make_{made_by.name.rpartition('.')[2].lower()}.py"


def _example(spec: str, file: Path, made_by: Constructor, arguments: Mapping[str, object]) -> str:
    """A file with a function that builds the model; what only the user can know is left as dots."""
    imports, given = {made_by.name.partition(".")[0]: made_by.home}, list[str]()
    for name in made_by.required:
        if name in arguments:
            given.append(f"{name}={arguments[name]!r}")
        else:
            given.append(f"{name}={_written(made_by.parameters[name], made_by.home, imports)}")
    head = f"# {file}"
    if any(value.endswith(("=...", "(...)")) for value in given):
        head += ": fill in the dots"
    stem = Path(spec.partition(":")[0]).stem
    if re.fullmatch(f"{re.escape(stem)}_[0-9a-f]{{8}}", made_by.home):  # it was imported under a longer name
        imports = {name: stem if home == made_by.home else home for name, home in imports.items()}
    froms = [
        f"from {home} import {', '.join(name for name, place in imports.items() if place == home)}"
        for home in dict.fromkeys(imports.values())
    ]
    call = f"    return {made_by.name}({', '.join(given)})"
    return "\n".join((head, *froms, "def make_model():", call))


def _written(parameter: inspect.Parameter, home: str, imports: dict[str, str]) -> str:
    """An argument as code: an object of its class, if that can be made without arguments; else `...` to fill in."""
    kind = parameter.annotation
    if not inspect.isclass(kind) or kind is inspect.Parameter.empty or issubclass(kind, (*_PLAIN, enum.Enum)):
        return "..."
    if kind.__module__.startswith(("torch.", "abc", "typing")):  # what is asked for is some module, not this class
        return "..."
    imports[kind.__qualname__.partition(".")[0]] = kind.__module__ or home
    made_by = constructor_of(kind)
    return f"{kind.__qualname__}({'' if made_by and not made_by.required else '...'})"


def _sample(parameter: inspect.Parameter) -> str:
    """How the value of a plain argument is written, by its annotation."""
    samples = {int: "INTEGER", float: "NUMBER", bool: "true", str: "'\"TEXT\"'", list: "'[1,2]'", tuple: "'[1,2]'"}
    return samples.get(parameter.annotation, "VALUE")


def _is_plain(parameter: inspect.Parameter) -> bool:
    """Whether JSON can give this argument; one without an annotation is judged by its name."""
    kind = parameter.annotation
    if kind is inspect.Parameter.empty or isinstance(kind, str):
        first, *rest = parameter.name.lower().strip("_").split("_")
        return (first not in _LONE_OBJECTS) if not rest else (rest[-1] not in _OBJECTS or first in _SIZES)
    return any(part in _PLAIN or part is Any for part in _parts(kind))


def _parts(kind: Any) -> Iterator[Any]:
    """The alternatives of an annotation: `int | None` is int and None, `list[int]` a list."""
    origin = typing.get_origin(kind)
    if origin is None:
        yield kind
    elif origin is typing.Annotated:
        yield from _parts(typing.get_args(kind)[0])
    elif isinstance(origin, type) and issubclass(origin, (list, tuple, dict)):
        yield origin
    elif origin is typing.Literal:
        yield str
    elif isinstance(origin, type) and origin.__module__ == "collections.abc" and origin.__name__ != "Callable":
        yield list
    else:
        for part in typing.get_args(kind):
            yield from _parts(part)
