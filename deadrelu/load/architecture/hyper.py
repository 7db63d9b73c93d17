"""Fill the constructor of `--arch` with the `hyper_parameters` that Lightning keeps beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deadrelu.load.architecture.constructor import Constructor
from deadrelu.load.unpickling.known import DICT_LIKE
from deadrelu.load.unpickling.pickled import Held
from deadrelu.load.unpickling.stub import Stub, StubClass

KEY = "hyper_parameters"
_NAME = "hparams_name"
_KEYWORDS = "kwargs"
_NAMESPACES = ("args", "cfg", "conf", "config", "hparams", "hyper_parameters", "opt", "options", "opts", "params")
"""What a constructor calls the one argument that takes them all."""

_DEEPEST = 8
_LONGEST = 40
_SHOWN = 12


@dataclass(frozen=True)
class HyperParameters:
    """The plain values among the hyper-parameters, and the names of what is left out since it is an object.

    `name` is the argument that takes them all, or "kwargs" where each is an argument of its own.
    """

    values: Mapping[str, object]
    left_out: tuple[str, ...] = ()
    name: str = ""


class Settings(dict[str, object]):
    """Values by name, as attributes too: what Lightning hands to a constructor that takes them in one argument."""

    def __getattr__(self, name: str) -> object:
        """The value of that name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the file's {KEY} have no plain value {name!r}") from None


def hyper_parameters(root: object) -> HyperParameters | None:
    """The hyper-parameters in a checkpoint that was read inert; None if it has none. Only plain values are taken."""
    if not isinstance(root, dict):
        return None
    table = _entries(dict.get(root, KEY))
    if not table:
        return None
    name = dict.get(root, _NAME)
    values: dict[str, object] = {}
    left_out: list[str] = []
    for key, value in table.items():
        if type(key) is str and key.isprintable() and _is_plain(value, 0):
            values[key] = _copied(value)
        else:
            left_out.append(str(key)[:_LONGEST])
    return HyperParameters(values, tuple(left_out), name if type(name) is str else "")


def filled(
    made_by: Constructor, hyper: HyperParameters, given: Mapping[str, object]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The arguments for a constructor, and the names of those that are the file's. What is `given` goes first."""
    whole = hyper.name if hyper.name in made_by.parameters else ""
    if not whole and not made_by.parameters.keys() & hyper.values.keys():
        whole = next((name for name in made_by.lacking(given) if name in _NAMESPACES), "")
    if whole and whole not in given:
        own = {name: value for name, value in given.items() if name in made_by.parameters}
        changed = {name: value for name, value in given.items() if name not in own}
        return {**own, whole: Settings({**hyper.values, **changed})}, tuple(k for k in hyper.values if k not in changed)
    takes_all = made_by.takes_any and made_by.is_lightning
    taken = {name: value for name, value in hyper.values.items() if takes_all or name in made_by.parameters}
    return {**taken, **given}, tuple(name for name in taken if name not in given)


def note(
    where: object, made_by: Constructor, hyper: HyperParameters, names: tuple[str, ...], given: Mapping[str, object]
) -> str:
    """What was filled from where, and what was not taken, in one line."""
    listed = ", ".join(f"{name}={_said(hyper.values[name])}" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    said = f"{made_by.name} is built with {listed}{more} from {KEY} in {where}; --arch-arg overrides them"
    if not names:
        said = f"{made_by.name} takes nothing of {KEY} in {where}"
    known = {*names, *given, *made_by.parameters}
    unused = [name for name in hyper.values if name not in known]
    parts = [said]
    if names and unused:
        parts.append(f"not taken: {_listed(unused)}")
    if hyper.left_out:
        parts.append(f"left out, as objects: {_listed(hyper.left_out)}")
    return "; ".join(parts)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _said(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _entries(value: Any) -> Mapping[Any, Any]:
    """The table of a dictionary, of Lightning's subclass of it, or of a Namespace; nothing of it is looked up."""
    if isinstance(value, Held) and value.path in DICT_LIKE:
        return value.entries
    if isinstance(value, Stub) and not isinstance(value, StubClass):
        value = value.state
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value is of nothing but numbers, strings, and lists and dictionaries of them."""
    if depth > _DEEPEST:
        return False
    if type(value) in (list, tuple):
        return all(_is_plain(inner, depth + 1) for inner in value)
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(inner, depth + 1) for key, inner in dict.items(value))
    return value is None or type(value) in (bool, int, float, str)


def _copied(value: Any) -> object:
    """The same values in plain lists and dictionaries of our own."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(inner) for inner in value)
    return value
