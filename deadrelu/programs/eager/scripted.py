"""What neither hooks nor function modes see into: scripted code, and which of its operators are calls of the user's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from deadrelu.programs.callsites import Spelling, calling_module
from deadrelu.programs.script.nodes import gates_of
from deadrelu.programs.special_operators import RECURRENT

_MANY = 4000
"""The most objects that are searched: one function may reach all of a large program."""


def can_call_script(modules: Iterable[nn.Module]) -> bool:
    """Whether the code of these modules, or a function that it names, refers to a scripted or traced object.

    Resolves names without running anything. What is created or looked up at run time is not found.
    """
    waiting: list[Any] = []
    seen: set[int] = set()
    for module in modules:
        values = [value for name, value in vars(module).items() if not name.startswith("_")]
        waiting += [*values, type(module)]
    while waiting and len(seen) < _MANY:
        value = waiting.pop()
        if isinstance(value, (torch.jit.ScriptFunction, torch.jit.ScriptModule)):
            return True
        if id(value) in seen or isinstance(value, (torch.Tensor, str, int, float)):
            continue
        seen.add(id(value))
        waiting += _reached(value)
    return False


def is_users(spelling: Spelling) -> bool | None:
    """Whether an operator is a call of the user's, rather than a step of what torch itself computes; None if unknown.

    Torch's own functions clamp for numerical reasons (cdist does), and its losses take the logarithm of a sigmoid; in
    scripted code these are the user's. Its recurrent layers call sigmoid and tanh for their gates.
    """
    module, name = calling_module(), spelling if isinstance(spelling, str) else spelling.name
    if isinstance(module, torch.jit.ScriptModule):
        gates = gates_of(module)
        return True if name not in gates else None if gates[name] else False
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return name not in RECURRENT
    return not isinstance(spelling, str) and name != "logsigmoid"


def _reached(value: Any) -> Iterator[Any]:
    """The objects that a function, a class or a container holds or names."""
    if isinstance(value, (list, tuple)):
        yield from value[:64]
    elif isinstance(value, dict):
        yield from list(value.values())[:64]
    elif isinstance(value, (staticmethod, classmethod)):
        yield value.__func__
    elif isinstance(value, property):
        yield value.fget
    elif isinstance(value, FunctionType) and _is_own(value.__module__):
        yield from _named(value)
    elif isinstance(value, type) and _is_own(value.__module__):
        for kind in value.__mro__:
            if _is_own(kind.__module__):
                yield from vars(kind).values()
    elif isinstance(value, MethodType):  # asked for any attribute, a stranger's object may raise
        yield value.__func__


def _named(function: FunctionType) -> Iterator[Any]:
    """The objects that a function's code names: globals, attributes of modules, and enclosed variables."""
    yield from function.__defaults__ or ()
    yield getattr(function, "__wrapped__", None)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    names = set(_names(function.__code__))
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        if not isinstance(value, ModuleType):
            yield value
        elif _is_own(value.__name__):
            yield from (vars(value)[inner] for inner in names & vars(value).keys())


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_own(module: str | None) -> bool:
    """Whether an object is neither torch's nor Python's, by the name of its module."""
    return (module or "").partition(".")[0] not in ("torch", "builtins", "typing", "collections", "numpy")
