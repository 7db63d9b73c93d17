"""What is known of the inputs of a TorchScript module: its layers in the order in which they run, and its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.programs.script.nodes import (
    ScriptModule,
    ScriptNode,
    UnknownValueError,
    known_value,
    layer_path,
    script_operator,
    walk_nodes,
)

_META = torch.device("meta")
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class _Root(nn.Module):
    """A stand-in for the whole model, with nothing but its signature."""

    def __init__(self, signature: inspect.Signature) -> None:
        super().__init__()

        def forward(*_: Any, **__: Any) -> None:
            raise NotImplementedError

        forward.__signature__ = signature  # type: ignore[attr-defined]
        self.forward = forward


def layers(script: ScriptModule) -> Iterator[tuple[str, nn.Module]]:
    """Path and stand-in of the model, and of each layer whose weights show what it takes.

    A stand-in is a module of torch.nn of the same kind and sizes on the meta device: it holds no values.
    """
    yield "", _Root(signature(script))
    for node in walk_nodes(script.inlined_graph):
        make = _MAKERS.get(script_operator(node))
        if make is None:
            continue
        try:
            layer = make([_value(value, script) for value in node.inputs()], node)
        except (UnknownValueError, AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue
        yield layer_path(node), layer


def signature(script: ScriptModule) -> inspect.Signature:
    """The parameters of `forward`, with their defaults."""
    arguments = script.forward.schema.arguments[1:]
    return inspect.Signature(
        [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
            )
            for argument in arguments
        ]
    )


def _value(value: Any, script: ScriptModule) -> Any:
    """A value that is known before the graph runs, or None."""
    try:
        return known_value(value, script)
    except UnknownValueError:
        return None


def _linear(values: list[Any], _: ScriptNode) -> nn.Module:
    return nn.Linear(values[1].shape[1], values[1].shape[0], device=_META)


def _convolution(values: list[Any], node: ScriptNode) -> nn.Module:
    weight: Tensor = values[1]
    name = node.kind()
    general = name.endswith("::_convolution")
    transposed = bool(values[6]) if general else "transpose" in name
    dims = weight.ndim - 2
    # The kernel size does not restrict the input, so 1 will do.
    if transposed:
        return _TRANSPOSED[dims](weight.shape[0], weight.shape[1], 1, device=_META)
    groups = values[8 if general else 6]
    return _CONVOLUTIONS[dims](weight.shape[1] * groups, weight.shape[0], 1, groups=groups, device=_META)


def _embedding(values: list[Any], _: ScriptNode) -> nn.Module:
    return nn.Embedding(values[0].shape[0], values[0].shape[1], device=_META)


def _layer_norm(values: list[Any], _: ScriptNode) -> nn.Module:
    return nn.LayerNorm(tuple(values[2].shape), device=_META)


def _recurrent(values: list[Any], _: ScriptNode) -> nn.Module:
    """`batch_first` is the last argument; the sizes are those of the first weight."""
    weights = next(value for value in values[1:] if isinstance(value, list) and len(value) > 1)
    return nn.RNN(weights[0].shape[1], weights[1].shape[1], batch_first=bool(values[-1]), device=_META)


_MAKERS: dict[str, Callable[[list[Any], ScriptNode], nn.Module]] = {
    "linear": _linear,
    **dict.fromkeys(("_convolution", "conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    "embedding": _embedding,
    "embedding_bag": _embedding,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("lstm", "gru", "rnn_relu", "rnn_tanh"), _recurrent),
}
