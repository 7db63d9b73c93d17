"""Hears which masks a model hands to its own attention layers, and which sequences it packs, while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from deadrelu.measure.padding.named import Mask, masks_in, tells_of_padding, tokens_of_packed
from deadrelu.measure.padding.tokens import read_mask
from deadrelu.programs.modes import without_functions, without_modes

_ENCODERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
_DECODERS = (nn.TransformerDecoder, nn.TransformerDecoderLayer)
_TORCHS = (nn.Transformer, nn.MultiheadAttention, *_ENCODERS, *_DECODERS)


@dataclass(frozen=True)
class Handed:
    """What a call of one module tells: the masks it was given, and the scopes that were given none.

    `input` is what it works on.
    """

    masks: tuple[Mask, ...]
    bare: tuple[str, ...]
    input: object


Hear = Callable[[Handed], None]

Reader = Callable[[tuple[Any, ...], Mapping[str, Any]], Handed]


@dataclass(frozen=True)
class Speaker:
    """A module that may be handed a mask or a packed sequence, and what reads its calls."""

    path: str
    module: nn.Module
    reader: Reader

    def stands_for(self, other: Speaker) -> bool:
        """Whether this is a layer of torch's own that hands its masks on, as they are, to `other`."""
        below = other.path.startswith(f"{self.path}." if self.path else "") and other.path != self.path
        return below and type(self.module) in _TORCHS


def speakers(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[Speaker]:
    """The speakers of a live model.

    These are torch's attention and recurrent layers, and of the user's own modules the outermost whose forward has a
    parameter with the name of a mask.
    """
    own: list[str] = []
    for path, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if isinstance(module, nn.RNNBase):
            yield Speaker(path, module, _packing(path))
            continue
        if type(module).__module__.startswith("torch.nn.") and not isinstance(module, _TORCHS):
            continue
        try:
            names = tuple(inspect.signature(module.forward).parameters)
        except (TypeError, ValueError):  # a forward that is no function of Python
            continue
        if isinstance(module, _TORCHS):
            yield Speaker(path, module, _attention(path, module, names))
        elif path and any(map(tells_of_padding, names)) and not any(path.startswith(f"{one}.") for one in own):
            own.append(path)
            yield Speaker(path, module, _own(path, names))


@contextmanager
def unseen() -> Iterator[None]:
    """While it lasts, nobody takes what we compute for a part of the model. Entering it costs more than a hook."""
    with without_functions(), without_modes():
        yield


@contextmanager
def hearing(every: Sequence[Speaker], hear: Hear) -> Iterator[Callable[[], None]]:
    """Tell `hear` of every call of the speakers, before it is made, while the block runs.

    Gives a function to call after a forward pass: those for whom another spoke in it are not listened to any more.
    """
    heard: set[str] = set()
    hooks: dict[str, RemovableHandle] = {}

    def settle() -> None:
        speaking = [speaker for speaker in every if speaker.path in heard]
        for speaker in every:
            if speaker.path in hooks and any(one.stands_for(speaker) for one in speaking):
                hooks.pop(speaker.path).remove()

    with ExitStack() as stack:
        for speaker in every:

            def hook(_: nn.Module, args: Any, kwargs: Any, speaker: Speaker = speaker) -> None:
                heard.add(speaker.path)
                hear(speaker.reader(args, kwargs))

            hooks[speaker.path] = speaker.module.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(hooks[speaker.path].remove)
        yield settle


def _packing(path: str) -> Reader:
    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed:
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, PackedSequence):
            return Handed((), (), x)
        said_by = f"the sequences packed for {path or 'the model'}"
        with unseen():
            return Handed((Mask(tokens_of_packed(x), said_by, _beside(path), is_cut=True),), (), None)

    return reader


def _own(path: str, names: tuple[str, ...]) -> Reader:
    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed:
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        with unseen():
            masks = tuple(masks_in(given, path))
        bare = not any(mask.side is None for mask in masks)  # one half of it, if not all
        return Handed(masks, (path,) if bare else (), next(iter(given.values()), None))

    return reader


def _attention(path: str, module: nn.Module, names: tuple[str, ...]) -> Reader:
    time_first = not _is_batch_first(module)

    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed:
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        masks, bare = [], []
        for name, scope in _scopes(path, module, given):
            tokens = None
            if (value := given.get(name)) is not None:
                with unseen():
                    tokens = read_mask(value, one_is_padding=True, is_added=True)
            if tokens is not None:
                masks.append(Mask(tokens, f"{name} of {path}" if path else name, scope, time_first=time_first))
            elif "#" not in scope:
                bare.append(scope)
        return Handed(tuple(masks), tuple(bare), given.get(names[0]))

    return reader


def _scopes(path: str, module: nn.Module, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each mask that a layer takes, and what runs on the positions that it speaks of.

    That of the memory comes first: what runs after the layer works on the target.
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
    """Whether an attention is of a sequence to itself."""
    if query is key:
        return True
    return query.shape == key.shape and not query.is_nested and query.data_ptr() == key.data_ptr()


def _beside(path: str) -> str:
    """A scope in which no module is."""
    return f"{path}#"


def _is_batch_first(module: nn.Module) -> bool:
    """Whether an attention layer takes `(N, T, F)`; a stack of layers is as its first attention is."""
    attentions = (part for part in module.modules() if isinstance(part, nn.MultiheadAttention))
    first = next(attentions, None)
    return bool(getattr(module, "batch_first", first is not None and first.batch_first))
