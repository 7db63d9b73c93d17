"""Which configuration keys a command has, and what each takes: read from its parameters, written nowhere else."""

from __future__ import annotations

import types
import typing
from enum import Enum
from fractions import Fraction
from typing import Any

from deadrelu.cli.values import BatchSize
from deadrelu.config.keys import Key


def keyed(command: Any) -> dict[str, Any]:
    """The parameters of a command by key: the long flags without dashes, and MODEL."""
    out = {}
    for parameter in command.params:
        flags = [flag[2:] for flag in parameter.opts if flag.startswith("--")]
        if flags and parameter.name != "help":
            out[flags[0]] = parameter
        elif parameter.name == "model":
            out["model"] = parameter
    return out


def keys_of(command: Any) -> dict[str, Key]:
    """The keys of a command, each with what it takes, from the annotations of its function."""
    hints = typing.get_type_hints(command.callback)
    return {key: _key(hints[parameter.name]) for key, parameter in keyed(command).items()}


def _key(hint: Any) -> Key:
    """What a parameter of this annotation takes."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        return Key("texts")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Key("choice", tuple(str(member.value) for member in hint))
    return Key(
        {bool: "switch", BatchSize: "count", int: "integer", float: "number", Fraction: "number"}.get(hint, "text")
    )
