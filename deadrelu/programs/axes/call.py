"""One call of an operator, as the rules of the axes see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from deadrelu.programs.axes.layout import WEIGHT, Layout


@dataclass(frozen=True, eq=False)
class Call:
    """An operator's name without namespace, overload and underscores; its arguments by name; what it gave out.

    `layer` gives the path of the layer at work; it walks the stack, so ask only where features are made.
    """

    name: str
    arguments: Mapping[str, Any]
    outputs: tuple[Tensor, ...]
    layout_of: Callable[[Any], Layout | None]
    layer: Callable[[], str | None]

    @property
    def out(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def source(self) -> Tensor:
        """The first tensor among the arguments."""
        return next(tensors_in(self.arguments.values()))

    @property
    def layout(self) -> Layout | None:
        """What is known of the first tensor among the arguments; None for a constant or a weight."""
        return self.known(self.source)

    def known(self, value: Any) -> Layout | None:
        """What is known of the axes of a tensor; None for a constant, a weight, or no tensor."""
        layout = self.layout_of(value) if isinstance(value, Tensor) else None
        return None if layout is WEIGHT else layout

    def is_weight(self, value: Any) -> bool:
        """Whether a tensor is a parameter, or was computed from parameters alone."""
        if not isinstance(value, Tensor):
            return False
        layout = self.layout_of(value)
        return isinstance(value, nn.Parameter) if layout is None else layout.is_weight

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor among the arguments, also inside lists."""
        return tensors_in(self.arguments.values())

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these arguments that the operator has and that is not None."""
        return next((self.arguments[n] for n in names if self.arguments.get(n) is not None), default)

    def dims(self, *names: str, of: Tensor, every: bool = False) -> tuple[int, ...]:
        """An argument that names dimensions, counted from the front; all of them where it is absent and `every`."""
        given = self.get(*names)
        if given is None or (isinstance(given, (list, tuple)) and not given):
            return tuple(range(of.ndim)) if every else ()
        return tuple(dim % max(of.ndim, 1) for dim in ([given] if isinstance(given, int) else given))


def bound(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operator by the names in its schema."""
    return dict(zip(_names(function), args, strict=False)) | dict(kwargs)


@cache
def _names(function: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in function._schema.arguments)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Every tensor among the values, also inside lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
