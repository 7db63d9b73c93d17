"""One call of an operator, as the axis rules see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from deadrelu.programs.axes.layout import WEIGHT, Layout
from deadrelu.programs.pytree import tensor_leaves


@dataclass(frozen=True, eq=False)
class OperatorCall:
    """An operator's name without namespace, overload and underscores, its arguments by name, and its outputs.

    `layer` returns the path of the running layer. It walks the stack, so call it only where features are made.
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
        return next(tensor_leaves(self.arguments))

    @property
    def layout(self) -> Layout | None:
        """The layout of the first tensor among the arguments; None for a constant or a weight."""
        return self.known(self.source)

    def known(self, value: Any) -> Layout | None:
        """The layout of a tensor; None for a constant, a weight, or anything but a tensor."""
        layout = self.layout_of(value) if isinstance(value, Tensor) else None
        return None if layout is WEIGHT else layout

    def is_weight(self, value: Any) -> bool:
        """Whether a tensor is a parameter, or was computed from parameters alone."""
        return isinstance(value, Tensor) and is_weight(value, self.layout_of(value))

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor among the arguments, including those inside lists."""
        return tensor_leaves(self.arguments)

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these arguments that is given and not None."""
        return next((self.arguments[n] for n in names if self.arguments.get(n) is not None), default)

    def dims(self, *names: str, of: Tensor, every: bool = False) -> tuple[int, ...]:
        """The dimensions that an argument names, counted from the front; with `every`, all of them by default."""
        given = self.get(*names)
        if given is None or (isinstance(given, (list, tuple)) and not given):
            return tuple(range(of.ndim)) if every else ()
        return tuple(dim % max(of.ndim, 1) for dim in ([given] if isinstance(given, int) else given))


def is_weight(x: Tensor, layout: Layout | None) -> bool:
    """Whether a tensor of this layout is a parameter, or was computed from parameters alone.

    A scripted module's parameters are plain tensors that require a gradient.
    """
    if layout is not None:
        return layout.is_weight
    return isinstance(x, nn.Parameter) or (x.requires_grad and x.is_leaf)


def bind_arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operator by the names in its schema."""
    return dict(zip(_names(function), args, strict=False)) | dict(kwargs)


@cache
def _names(function: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in function._schema.arguments)
