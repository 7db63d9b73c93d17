"""Read shares as people write them: `5%`, `0.05` or a `Fraction`; and the fields of a policy that take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Real
from typing import Any, Generic, TypeAlias, TypeVar

from deadrelu.errors import UsageError

Share: TypeAlias = str | float | Fraction
Limits: TypeAlias = Mapping[str, Share] | Iterable[tuple[str, Share]]

_Given = TypeVar("_Given")
_Held = TypeVar("_Held")


class Field(Generic[_Given, _Held]):
    """A field of a dataclass that accepts what a person writes and stores a number."""

    def __init__(self, default: _Held, read: Callable[[str, _Given], _Held]) -> None:
        self._default = default
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name for errors."""
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> _Held:
        """Return the stored value; on the class itself the default, where `dataclass` looks for it."""
        if instance is None:
            return self._default
        held: _Held = instance.__dict__[self._name]
        return held

    def __set__(self, instance: object, value: _Given) -> None:
        """Read and store the value. Raises `UsageError` if it cannot be read."""
        instance.__dict__[self._name] = self._read(self._name, value)


def read_share(name: str, value: Share) -> float:
    """Read a share in 0..1. Raises `UsageError` that names the parameter."""
    wanted = f"{name} must be between 0 and 1 or a percentage such as '5%', got {value!r}"
    if isinstance(value, str):
        try:
            return parse_fraction(value)
        except UsageError as error:
            raise UsageError(wanted, hint=error.hint) from error
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        percentage = isinstance(value, Real) and 1 < value <= 100
        raise UsageError(
            wanted, hint=f"for a percentage write '{value}%'" if percentage else "for example '5%' or 0.05"
        )
    return float(value)


def read_limit(name: str, value: Share | None) -> float | None:
    """Read a share in 0..1, or None for no limit. Raises `UsageError`."""
    return None if value is None else read_share(name, value)


def read_confidence(name: str, value: Share) -> float:
    """Read a share above 0 and below 1. Raises `UsageError`."""
    level = read_share(name, value)
    if not 0 < level < 1:
        raise UsageError(f"{name} must be above 0 and below 1, got {value!r}", hint="for example '95%' or 0.95")
    return level


def read_limits(name: str, value: Limits) -> tuple[tuple[str, float], ...]:
    """Read pairs of a glob over site ids and a share. Raises `UsageError`."""
    pairs: list[Any] = list(
        value.items() if isinstance(value, Mapping) else value if isinstance(value, Iterable) else [value]
    )
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UsageError(
                f"{name} must map globs over site ids to shares, got {pair!r}",
                hint=f"for example {name}={{'head.*': '20%'}}",
            )
    return tuple((glob, read_share(f"{name}[{glob!r}]", share)) for glob, share in pairs)


def parse_fraction(text: str) -> float:
    """Read a fraction in 0..1 from a percentage (`5%`) or a decimal (`0.05`).

    A bare `1` is refused, because it could mean 1% or 100%. Raises `UsageError` with the reason.
    """
    number, is_percentage = text.strip(), text.strip().endswith("%")
    try:
        value = Decimal(number.removesuffix("%").strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise UsageError(f"{text!r} is not a fraction", hint="write a percentage such as 5%, or a decimal such as 0.05")
    if number == "1":
        raise UsageError("'1' may mean 1% or 100%", hint="write 1% or 100%")
    if is_percentage:
        value /= 100
    elif 1 < value <= 100:
        raise UsageError(f"{text!r} is more than 1", hint=f"for a percentage write {number}%")
    if not 0 <= value <= 1:
        raise UsageError(f"{text!r} is outside 0% to 100%", hint="write a percentage such as 5%")
    return float(value)
