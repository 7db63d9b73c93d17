"""Identifies each activation call: which activation it is, which module made it, and where in the source."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.activations import ACTIVATIONS, CLAMPS, Activation, canonical, clamp_kind
from deadrelu.flatness import Parameters
from deadrelu.programs.process_state import working_folder
from deadrelu.report import Source

Spelling = Activation | str
"""What a torch function may be: a kind of activation, or one of the clamps (by its name)."""

ActivationCall = tuple[str, Parameters, Tensor]
"""An activation call: which activation, its parameters, and its pre-activation."""

STAND_IN = torch.empty((0,) * 8)
"""An empty tensor with more dimensions than any call refers to: what a call is can be read before it runs."""

_QUANTISED = {"elu": 6, "celu": 3}
"""So many arguments has the twin for quantised tensors whose first two describe its output."""

_TORCH = os.path.dirname(torch.__file__) + os.sep
_FUNCTIONAL = os.path.join(_TORCH, "nn", "functional.py")
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_CALL = nn.Module.__call__.__code__


@cache
def spellings() -> Mapping[Any, Spelling]:
    """Every torch function, method and operator that can be an activation call, keyed by the object itself."""
    table: dict[Any, Spelling] = {}
    for kind in ACTIVATIONS:
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
def module_kinds() -> Mapping[Any, Activation]:
    """The activation modules of torch.nn, keyed by forward: a subclass that keeps it is still that activation."""
    return {getattr(nn, kind.module).forward: kind for kind in ACTIVATIONS}


def kind_of_module(module: nn.Module) -> tuple[str, Parameters] | None:
    """The activation that this module applies, and its parameters; None if it has its own forward."""
    if isinstance(module, torch.jit.ScriptModule) or "forward" in module.__dict__:
        return None
    kind = module_kinds().get(type(module).forward)
    if kind is None:
        return None
    return activation_of(kind, [getattr(module, name) for name in kind.defaults])


def activation_of(kind: Activation, values: list[Any]) -> tuple[str, Parameters] | None:
    """The activation that a module of this kind applies with these values in its fields; None if torch refuses them."""
    try:
        found = _parameters(values)
    except (TypeError, ValueError, OverflowError):
        return None  # not a number
    return None if found is None else canonical(kind.name, found)


def module_input(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """The pre-activation of an activation module that is called with these arguments."""
    z = args[0] if args else kwargs.get("input")
    kind = module_kinds().get(type(module).forward)
    return gate_of(z, module.dim) if kind is not None and kind.is_gated and isinstance(z, Tensor) else z


def gate_of(z: Tensor, dim: Any) -> Tensor | None:
    """The half of the input of a gated unit that is its pre-activation; None if it has no halves along `dim`."""
    if not isinstance(dim, int) or not -z.ndim <= dim < z.ndim or z.shape[dim] % 2:
        return None
    half = z.shape[dim] // 2
    return z.narrow(dim, half, half)


def read_calls(spelling: Spelling, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[ActivationCall]:
    """The activation calls that a call of torch makes: none, one, or of a list of tensors one for each."""
    first = args[0] if args else kwargs.get("self")
    if not isinstance(first, (list, tuple)):
        found = read_call(spelling, args, kwargs)
        return [] if found is None else [found]
    given = dict(zip(("self", "bound"), args, strict=False)) | dict(kwargs)
    bound = next((given[name] for name in ("bound", "scalar", "scalars", "other") if name in given), None)
    bounds = bound if isinstance(bound, (list, tuple)) else [bound] * len(first)
    calls = (read_call("clamp_min", (z, low), {}) for z, low in zip(first, bounds, strict=False))
    return [call for call in calls if call is not None]


def read_call(spelling: Spelling, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
    """The activation call that a call of torch makes.

    None if it is not an activation after all, as a clamp at 1e-6 or of indices.
    """
    z = args[0] if args else kwargs.get("input", kwargs.get("self"))
    if not isinstance(z, Tensor) or not (z.is_floating_point() or z.is_quantized):
        return None  # integers have no gradient
    if isinstance(spelling, str):
        low = _number(args[1] if len(args) > 1 else kwargs.get("min"))
        high = None if "min" in spelling else _number(args[2] if len(args) > 2 else kwargs.get("max"))
        clamped = clamp_kind(low, high)
        return None if clamped is None else (*clamped, z)
    if spelling.is_gated:
        gate = gate_of(z, args[1] if len(args) > 1 else kwargs.get("dim", -1))
        return None if gate is None else (spelling.name, (), gate)
    rest = args[1:]
    if (rest and len(spelling.defaults) > 1 and isinstance(rest[0], Tensor)) or (  # the noise of rrelu_with_noise
        z.is_quantized and len(args) >= _QUANTISED.get(spelling.name, len(args) + 1)
    ):
        rest = rest[1 if isinstance(rest[0], Tensor) else 2 :]
    given = dict(spelling.defaults) | dict(zip(spelling.defaults, rest, strict=False)) | dict(kwargs)
    values = [given.get(name) for name in spelling.defaults]
    if spelling.name == "elu" and len(rest) == 3:  # torch's operator, of which SELU and CELU are made
        values += rest[1:]
    found = _parameters(values)
    return None if found is None else (*canonical(spelling.name, found), z)


def _parameters(values: list[Any]) -> Parameters | None:
    """The parameters of an activation as plain values; None where they hold none.

    A weight gives its entries, or one where all are the same.
    """
    if len(values) == 1 and isinstance(weight := values[0], Tensor):
        if weight.is_meta or not weight.numel():
            return None
        weight = weight.dequantize() if weight.is_quantized else weight.detach()
        entries = weight.flatten().tolist()
        return (entries[0],) if len(set(entries)) == 1 else tuple(entries)
    return tuple(value if isinstance(value, str) else float(value) for value in values)


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
