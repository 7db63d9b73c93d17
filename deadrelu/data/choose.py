"""Which of several arrays go into the model, and how: by position or by keyword."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deadrelu.errors import DataError
from deadrelu.programs.program import Program

_LABELS = re.compile(r"(?:y|labels?|targets?|class(?:es)?)(?:_(?:train|test|val|valid|validation))?", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """Names of the arrays that `forward` gets by position and by keyword, and of those that it does not get."""

    args: tuple[str, ...] = ()
    kwargs: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All arrays that go in."""
        return (*self.args, *self.kwargs)


def required_names(program: Program) -> tuple[str, ...]:
    """The parameters of `forward` without a default, or all known names where the signature is not at hand."""
    root = next((module for path, module in program.modules() if path == ""), None)
    try:
        parameters = inspect.signature(root.forward).parameters.values() if root is not None else ()
    except (TypeError, ValueError):
        parameters = ()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(p.name for p in named if p.default is p.empty) if named else program.parameter_names


def choose_by_position(count: int, program: Program, data_key: str | None) -> Choice:
    """Choose among `count` unnamed parts, called "0", "1" and so on: the first ones, as many as the model requires.

    So `(x, y)` gives `x` to a model of one input. Raises `DataError` if `data_key` names no part.
    """
    names = [str(index) for index in range(count)]
    if data_key is not None:
        return _by_key(names, (), data_key, lambda: f"parts 0 to {count - 1}")
    taken = max(1, len(required_names(program)))
    return Choice(args=tuple(names[:taken]), dropped=tuple(names[taken:]))


def choose_by_name(names: Sequence[str], program: Program, data_key: str | None, describe: Callable[[], str]) -> Choice:
    """Choose among named arrays.

    In this order: those that `data_key` lists (`x` or `x,mask`); those that are called like parameters of `forward`;
    the only one that is not called like labels. `describe` lists the arrays for an error.

    Raises `DataError` where none of these settles it.
    """
    if data_key is not None:
        return _by_key(names, program.parameter_names, data_key, describe)
    required = required_names(program)
    inputs = [name for name in names if name in required or not _LABELS.fullmatch(name)]
    matching = [name for name in inputs if name in program.parameter_names]
    if matching and all(name in matching for name in required if name in program.parameter_names):
        return Choice(kwargs=tuple(matching), dropped=tuple(name for name in names if name not in matching))
    alone = inputs if len(names) > 1 else list(names)
    if len(alone) == 1 and len(required) <= 1:
        return Choice(args=tuple(alone), dropped=tuple(name for name in names if name not in alone))
    wanted = f"the model takes {', '.join(required)}, " if required else ""
    raise DataError(
        f"{wanted}and the data has {describe()}: which go in?",
        hint="choose with --data-key NAME, or --data-key NAME,NAME in the order of the model's inputs",
    )


def _by_key(names: Sequence[str], parameters: Sequence[str], data_key: str, describe: Callable[[], str]) -> Choice:
    """The arrays that the user lists: by keyword if all are called like parameters, by position otherwise."""
    wanted = tuple(dict.fromkeys(part.strip() for part in data_key.split(",") if part.strip()))
    absent = [name for name in wanted if name not in names]
    if absent or not wanted:
        raise DataError(
            f"--data-key {data_key}: the data has no {', '.join(absent) or 'such array'}; it has {describe()}",
            hint="name arrays that are there",
        )
    dropped = tuple(name for name in names if name not in wanted)
    if all(name in parameters for name in wanted):
        return Choice(kwargs=wanted, dropped=dropped)
    return Choice(args=wanted, dropped=dropped)
