"""Identifies each activation call: which activation it is, which module made it, and where in the source."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from pathlib import Path
from types import FrameType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from deadrelu.activations import (
    CLAMPS,
    KINDS,
    Activation,
    Leak,
    Parameters,
    canonical,
    clamp_kind,
    leak_kind,
)
from deadrelu.programs.process_state import working_folder
from deadrelu.report import Source

Spelling = Activation | Leak | str
"""What a torch function may be: a kind of activation, or one of the clamps (by its name)."""

ActivationCall = tuple[str, Parameters, Tensor, bool]
"""An activation call: which activation, its parameters, its pre-activation, and whether it is leaky."""

_TORCH = os.path.dirname(torch.__file__) + os.sep
_FUNCTIONAL = os.path.join(_TORCH, "nn", "functional.py")
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_CALL = nn.Module.__call__.__code__


@cache
def spellings() -> Mapping[Any, Spelling]:
    """Every torch function, method and operator that can be an activation call, keyed by the object itself."""
    table: dict[Any, Spelling] = {}
    for kind in KINDS:
        for dotted in kind.functions:
            *path, name = dotted.split(".")[1:]
            owner: Any = reduce(getattr, path, torch)
            if (function := getattr(owner, name, None)) is not None:
                table[function] = kind
        for name in kind.operators:
            _add_operator(table, name, kind)
    for name in CLAMPS:
        for owner in (torch, Tensor):
            if hasattr(owner, name):
                table[getattr(owner, name)] = name
        _add_operator(table, name, name)
    return table


def _add_operator(table: dict[Any, Spelling], name: str, spelling: Spelling) -> None:
    """Add an aten operator and its twin for quantised tensors, with overloads, where this torch has them."""
    for packet in (getattr(torch.ops.aten, name, None), getattr(torch.ops.quantized, name, None)):
        if packet is not None:
            table[packet] = spelling
            table |= {getattr(packet, overload): spelling for overload in packet.overloads()}


@cache
def module_kinds() -> Mapping[Any, Activation | Leak]:
    """The activation modules of torch.nn, keyed by forward: a subclass that keeps it is still that activation."""
    return {getattr(nn, kind.module).forward: kind for kind in KINDS}


def kind_of_module(module: nn.Module) -> tuple[str, Parameters] | None:
    """The activation that this module applies, and its parameters; None if it leaks or has its own forward."""
    if isinstance(module, torch.jit.ScriptModule) or "forward" in module.__dict__:
        return None
    kind = module_kinds().get(type(module).forward)
    if kind is None:
        return None
    values = [getattr(module, name) for name in kind.defaults]
    try:
        if isinstance(kind, Leak):
            return leak_of(values)
        return canonical(kind.name, tuple(map(float, values)))
    except (TypeError, ValueError, OverflowError):
        return None  # not a number: torch refuses it when the module is called


def read_calls(spelling: Spelling, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[ActivationCall]:
    """The activation calls that a call of torch makes: none, one, or of a list of tensors one for each."""
    first = args[0] if args else kwargs.get("self")
    if not isinstance(first, (list, tuple)):
        if (found := read_call(spelling, args, kwargs)) is not None:
            return [(*found, False)]
        z = first if args else kwargs.get("input", first)
        return [(spelling.name, (), z, True)] if isinstance(spelling, Leak) and _has_gradient(z) else []
    given = dict(zip(("self", "bound"), args, strict=False)) | dict(kwargs)
    bound = next((given[name] for name in ("bound", "scalar", "scalars", "other") if name in given), None)
    bounds = bound if isinstance(bound, (list, tuple)) else [bound] * len(first)
    calls = (read_call("clamp_min", (z, low), {}) for z, low in zip(first, bounds, strict=False))
    return [(*call, False) for call in calls if call is not None]


def read_call(
    spelling: Spelling, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Parameters, Tensor] | None:
    """The activation that a call applies, its parameters and its pre-activation.

    None if it leaks, or is not an activation after all, as a clamp at 1e-6 or of indices.
    """
    z = args[0] if args else kwargs.get("input", kwargs.get("self"))
    if not _has_gradient(z):
        return None
    if isinstance(spelling, str):
        low = _number(args[1] if len(args) > 1 else kwargs.get("min"))
        high = None if "min" in spelling else _number(args[2] if len(args) > 2 else kwargs.get("max"))
        found = clamp_kind(low, high)
    elif isinstance(spelling, Leak):
        has_noise = len(spelling.defaults) > 1 and len(args) > 1 and isinstance(args[1], Tensor)  # rrelu_with_noise
        names = (*spelling.defaults, "training")
        given = dict(zip(names, args[2 if has_noise else 1 :], strict=False)) | dict(kwargs)
        values = [given.get(name, default) for name, default in spelling.defaults.items()]
        found = leak_of(values, given.get("training"))
    elif not spelling.defaults:
        found = spelling.name, ()
    else:
        given = dict(spelling.defaults) | dict(zip(spelling.defaults, args[1:], strict=False)) | dict(kwargs)
        found = canonical(spelling.name, tuple(float(given[name]) for name in spelling.defaults))
    return None if found is None else (*found, z)


def _has_gradient(z: object) -> TypeGuard[Tensor]:
    """Whether this is a tensor in which gradients can flow: integers have none."""
    return isinstance(z, Tensor) and (z.is_floating_point() or z.is_quantized)


def is_leaky_module(module: nn.Module | None) -> bool:
    """Whether this is a leaky activation module of torch.nn, perhaps with a slope of zero."""
    if module is None or isinstance(module, torch.jit.ScriptModule) or "forward" in module.__dict__:
        return False
    return isinstance(module_kinds().get(type(module).forward), Leak)


def leak_of(values: list[Any], trains: object = False) -> tuple[str, Parameters] | None:
    """The ReLU that an activation with these slopes is; None if it leaks, or if that cannot be known."""
    if not values:
        return None
    if len(values) == 1 and isinstance(weight := values[0], Tensor):
        if weight.is_meta:
            return None
        weight = weight.dequantize() if weight.is_quantized else weight.detach()
        # Most weights hold no zero and need not be copied.
        return leak_kind(weight.flatten().tolist()) if not bool(weight.all()) else None
    slopes = [float(value) for value in values if isinstance(value, (int, float))]
    if len(slopes) != len(values) or (trains and len(set(slopes)) > 1):
        return None
    return leak_kind([sum(slopes) / len(slopes)])


def _number(value: object) -> object:
    """A bound as a number, even if given as a tensor whose elements are all equal."""
    if not isinstance(value, Tensor) or value.numel() == 0 or value.is_meta:
        return value
    first = value.flatten()[0]
    return first.item() if value.numel() == 1 or bool((value == first).all()) else value


def _frames() -> Iterator[FrameType]:
    """The stack from the innermost call outwards, without our own frames."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_HERE):
            yield frame
        frame = frame.f_back


def calling_module() -> nn.Module | None:
    """The innermost module whose `__call__` is on the stack: its forward makes the present call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CALL:
            module = frame.f_locals["self"]
            return module if isinstance(module, nn.Module) else None
        frame = frame.f_back
    return None


def calling_source() -> Source | None:
    """Where the present call is in the user's code; None if torch itself makes it (inside a stock layer)."""
    for frame in _frames():
        name = frame.f_code.co_filename
        if name == _FUNCTIONAL or (name.startswith(_TORCH) and os.sep + "nn" + os.sep not in name):
            continue
        if name.startswith((_TORCH, "<")):
            return None
        return Source(file=display_path(name), line=frame.f_lineno, **_columns(frame))
    return None


def _columns(frame: FrameType) -> dict[str, int]:
    """First and last column of the call, in characters from 1, where Python keeps them (3.11 and later)."""
    if sys.version_info < (3, 11):
        return {}
    line, end_line, start, end = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if line is None or line != end_line or start is None or end is None:
        return {}
    text = linecache.getline(frame.f_code.co_filename, line).encode()  # Python counts the bytes of UTF-8
    return {"column": len(text[:start].decode()) + 1, "end_column": len(text[:end].decode()) + 1}


def display_path(name: str) -> str:
    """A path as a person would type it: relative where it is below the working directory."""
    path, here = Path(name), working_folder()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()
