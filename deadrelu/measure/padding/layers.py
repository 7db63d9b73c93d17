"""Watches which masks a running model passes to its attention layers, and which sequences it packs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from deadrelu.measure.padding.named import Mask, masks_in, may_name_padding, tokens_of_packed
from deadrelu.measure.padding.tokens import read_mask
from deadrelu.programs.eager.calls import Handle, Hooks
from deadrelu.programs.modes import without_functions, without_modes

_ENCODERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
_DECODERS = (nn.TransformerDecoder, nn.TransformerDecoderLayer)
_TORCHS = (nn.Transformer, nn.MultiheadAttention, *_ENCODERS, *_DECODERS)


@dataclass(frozen=True)
class LayerCall:
    """What a call of one module shows: its masks, the scopes without one, and the `input` that it works on."""

    masks: tuple[Mask, ...]
    bare: tuple[str, ...]
    input: object


OnCall = Callable[[LayerCall], None]
"""Gets each call of a watched layer before it is made."""

Reader = Callable[[tuple[Any, ...], Mapping[str, Any]], LayerCall]


@dataclass(frozen=True)
class MaskedLayer:
    """A module that may get a mask or a packed sequence, and what reads its calls."""

    path: str
    module: nn.Module
    reader: Reader

    def passes_masks_to(self, other: MaskedLayer) -> bool:
        """Whether this is one of torch's own layers that passes its masks, unchanged, to `other`."""
        below = other.path.startswith(f"{self.path}." if self.path else "") and other.path != self.path
        return below and type(self.module) in _TORCHS


def masked_layers(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[MaskedLayer]:
    """The modules of a live model that may get a mask.

    These are torch's attention and recurrent layers, and of the user's own modules the outermost whose forward has a
    parameter with the name of a mask.
    """
    own: list[str] = []
    for path, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if isinstance(module, nn.RNNBase):
            yield MaskedLayer(path, module, _packing(path))
            continue
        if type(module).__module__.startswith("torch.nn.") and not isinstance(module, _TORCHS):
            continue
        try:
            names = tuple(inspect.signature(module.forward).parameters)
        except (TypeError, ValueError):  # a forward that is not a Python function
            continue
        if isinstance(module, _TORCHS):
            yield MaskedLayer(path, module, _attention(path, module, names))
        elif path and any(map(may_name_padding, names)) and not any(path.startswith(f"{one}.") for one in own):
            own.append(path)
            yield MaskedLayer(path, module, _own(path, names))


@contextmanager
def unobserved() -> Iterator[None]:
    """Hide what the block computes from the modes that watch the model. Entering it costs more than a hook."""
    with without_functions(), without_modes():
        yield


@contextmanager
def watch_layers(layers: Sequence[MaskedLayer], on_call: OnCall, where: Hooks) -> Iterator[Callable[[], None]]:
    """Pass every call of `layers` to `on_call` while the block runs.

    Yields a function to call after a forward pass: it stops watching the layers that got their masks from another one.
    """
    called: set[str] = set()
    hooks: dict[str, Handle] = {}

    def drop_inner() -> None:
        outer = [layer for layer in layers if layer.path in called]
        for layer in layers:
            if layer.path in hooks and any(one.passes_masks_to(layer) for one in outer):
                hooks.pop(layer.path).remove()

    with ExitStack() as stack:
        for layer in layers:

            def hook(_: nn.Module, args: Any, kwargs: Any, layer: MaskedLayer = layer) -> None:
                called.add(layer.path)
                on_call(layer.reader(args, kwargs))

            hooks[layer.path] = where.before(layer.module, hook)
            stack.callback(hooks[layer.path].remove)
        yield drop_inner


def _packing(path: str) -> Reader:
    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LayerCall:
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, PackedSequence):
            return LayerCall((), (), x)
        name = f"the sequences packed for {path or 'the model'}"
        with unobserved():
            return LayerCall((Mask(tokens_of_packed(x), name, _beside(path), is_cut=True),), (), None)

    return reader


def _own(path: str, names: tuple[str, ...]) -> Reader:
    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LayerCall:
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        with unobserved():
            masks = tuple(masks_in(given, path))
        bare = not any(mask.side is None for mask in masks)  # one half of it, if not all
        return LayerCall(masks, (path,) if bare else (), next(iter(given.values()), None))

    return reader


def _attention(path: str, module: nn.Module, names: tuple[str, ...]) -> Reader:
    time_first = not _is_batch_first(module)

    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LayerCall:
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        masks, bare = [], []
        for name, scope in _scopes(path, module, given):
            tokens = None
            if (value := given.get(name)) is not None:
                with unobserved():
                    tokens = read_mask(value, one_is_padding=True, is_added=True)
            if tokens is not None:
                masks.append(Mask(tokens, f"{name} of {path}" if path else name, scope, time_first=time_first))
            elif "#" not in scope:
                bare.append(scope)
        return LayerCall(tuple(masks), tuple(bare), given.get(names[0]))

    return reader


def _scopes(path: str, module: nn.Module, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each mask that a layer takes, and the scope that works on its positions.

    The mask of the memory comes first: what runs after the layer works on the target.
    """
    if isinstance(module, nn.Transformer):
        inner = f"{path}." if path else ""
        return [("src_key_padding_mask", f"{inner}encoder"), ("tgt_key_padding_mask", f"{inner}decoder")]
    if isinstance(module, _ENCODERS):
        return [("src_key_padding_mask", path)]
    if isinstance(module, _DECODERS):
        return [("memory_key_padding_mask", _beside(path)), ("tgt_key_padding_mask", path)]
    query, key = given.get("query"), given.get("key")
    if isinstance(query, Tensor) and isinstance(key, Tensor) and _is_same(query, key):
        return [("key_padding_mask", path.rpartition(".")[0])]
    return [("key_padding_mask", _beside(path))]


def _is_same(query: Tensor, key: Tensor) -> bool:
    """Whether a sequence attends to itself."""
    if query is key:
        return True
    return query.shape == key.shape and not query.is_nested and query.data_ptr() == key.data_ptr()


def _beside(path: str) -> str:
    """A scope that holds no module."""
    return f"{path}#"


def _is_batch_first(module: nn.Module) -> bool:
    """Whether an attention layer takes `(N, T, F)`; a stack of layers does if its first attention does."""
    attentions = (part for part in module.modules() if isinstance(part, nn.MultiheadAttention))
    first = next(attentions, None)
    return bool(getattr(module, "batch_first", first is not None and first.batch_first))
