"""Which of several arrays go into the model, and how: by position or by keyword."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deadrelu.data.signature import Signature
from deadrelu.errors import DataError
from deadrelu.text.spelling import did_you_mean

LABELS = re.compile(r"(?:y|labels?|targets?|class(?:es)?)(?:_(?:train|test|val|valid|validation))?", re.IGNORECASE)
"""The names of arrays that hold labels."""


@dataclass(frozen=True)
class Choice:
    """Names of the arrays that `forward` gets by position, by keyword (parameter to array), and not at all."""

    args: tuple[str, ...] = ()
    kwargs: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All arrays that go in."""
        return (*self.args, *self.kwargs.values())


def choose_by_position(count: int, signature: Signature, data_key: str | None) -> Choice:
    """Choose among `count` unnamed parts, called "0", "1" and so on: the first ones, as many as the model requires.

    So `(x, y)` gives `x` to a model of one input. Raises `DataError` if `data_key` names no part, and where there are
    fewer than the model requires.
    """
    names = [str(index) for index in range(count)]
    if data_key is not None:
        return _by_key(names, signature, data_key, lambda: f"parts 0 to {count - 1}")
    taken = signature.inputs
    if signature.is_known and count < len(signature.required):
        raise DataError(
            f"the model takes {', '.join(signature.required)}, and the data has {count} of these {taken}",
            hint=_absent(signature.required[count:]),
        )
    return _placed(names[:taken], names[taken:], signature)


def choose_by_name(
    names: Sequence[str], signature: Signature, data_key: str | None, describe: Callable[[], str]
) -> Choice:
    """Choose among named arrays.

    In this order: those that `data_key` lists (`x` or `x,mask`); those that are called like parameters of `forward`;
    the only one that is not called like labels. `describe` lists the arrays for an error.

    Raises `DataError` where none of these settles it.
    """
    if data_key is not None:
        return _by_key(names, signature, data_key, describe)
    required, parameters = signature.required, signature.parameters
    inputs = [name for name in names if name in required or not LABELS.fullmatch(name)]
    matching = [name for name in inputs if name in parameters]
    if matching and all(name in matching for name in required if name in parameters):
        return Choice(
            kwargs={name: name for name in matching}, dropped=tuple(name for name in names if name not in matching)
        )
    alone = inputs if len(names) > 1 else list(names)
    if len(alone) == 1 and len(required) <= 1:
        return _placed(alone, [name for name in names if name not in alone], signature)
    lacking = [name for name in required if name in parameters and name not in names]
    if matching and lacking and signature.is_known:
        raise DataError(f"the model takes {', '.join(required)}, and the data has {describe()}", hint=_absent(lacking))
    wanted = f"the model takes {', '.join(required)}, " if required else ""
    raise DataError(
        f"{wanted}and the data has {describe()}: which go in?",
        hint="choose with --data-key NAME, or --data-key NAME,NAME in the order of the model's inputs",
    )


def _absent(names: Sequence[str]) -> str:
    """How to give what the data lacks."""
    return f"give {', '.join(names)} in the data too, or the same for every call with --input {names[0]}=JSON"


def _by_key(names: Sequence[str], signature: Signature, data_key: str, describe: Callable[[], str]) -> Choice:
    """The arrays that the user lists: by keyword if all are called like parameters, by position otherwise."""
    wanted = tuple(dict.fromkeys(part.strip() for part in data_key.split(",") if part.strip()))
    absent = [name for name in wanted if name not in names]
    if absent or not wanted:
        raise DataError(
            f"--data-key {data_key}: the data has no {', '.join(absent) or 'such array'}; it has {describe()}",
            hint=did_you_mean((*absent, data_key)[0], names, write="--data-key {}") or "name arrays that are there",
        )
    dropped = [name for name in names if name not in wanted]
    if all(name in signature.parameters for name in wanted):
        return Choice(kwargs={name: name for name in wanted}, dropped=tuple(dropped))
    return _placed(wanted, dropped, signature)


def _placed(taken: Sequence[str], dropped: Sequence[str], signature: Signature) -> Choice:
    """The taken arrays in the order of the free parameters: by position, or by keyword where a position will not do."""
    if signature.is_known and signature.positional and not signature.parameters:
        raise DataError(
            "every input of the model is given by --input, and the data holds another", hint="leave one out"
        )
    free = (*signature.required, *(name for name in signature.parameters if name not in signature.required))
    if signature.is_by_position(free[: len(taken)]) or not signature.is_known or len(free) < len(taken):
        return Choice(args=tuple(taken), dropped=tuple(dropped))
    return Choice(kwargs=dict(zip(free, taken, strict=False)), dropped=tuple(dropped))
