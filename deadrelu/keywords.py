"""What the functions of the API share: keywords that are the fields of a spec, and a process left as it was."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import ParamSpec, TypeVar

from deadrelu.data.spec import DataOptions, DataSpec
from deadrelu.load.spec import ModelOptions, ModelSpec

_P = ParamSpec("_P")
_R = TypeVar("_R")


def takes(*specs: type[ModelSpec] | type[DataSpec]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Show the fields of `specs` as keywords of a function with `**options`, and refuse any other keyword."""
    names = {*ModelOptions.__annotations__, *DataOptions.__annotations__}

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        found = [f for spec in specs for f in fields(spec) if f.name in names]
        defaults = {f.name: None if f.default is MISSING else f.default for f in found}
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(f.name, keyword, default=defaults[f.name], annotation=f.type) for f in found]
        signature = signature.replace(parameters=[*own, *more])
        entries = [entry for spec in specs for entry in re.split(r"(?m)^(?=`)", inspect.getdoc(spec) or "")[1:]]
        described = "\n".join(
            entry.rstrip() for entry in entries if entry[1:].partition("`")[0] in signature.parameters
        )

        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for name in kwargs:
                if name not in signature.parameters:
                    raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}")
            return function(*args, **kwargs)

        call.__dict__["__signature__"] = signature
        call.__doc__ = f"{inspect.getdoc(function)}\n\n{described}"
        return call

    return decorate


def undisturbed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function, which leaves the process as it found it, whatever the user's code changes."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        from deadrelu.programs.process_state import restore_process_state

        with restore_process_state():
            return function(*args, **kwargs)

    return call
