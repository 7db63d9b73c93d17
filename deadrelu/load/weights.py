"""Find the state dict in whatever was loaded, fit it to a module, and count what is not finite in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deadrelu.errors import ArchitectureError, FileError, UsageError

_log = logging.getLogger("deadrelu")

State = dict[str, Tensor]
T = TypeVar("T")

_DEPTH = 4
_LISTED = 6
_NOT_WEIGHTS = ("optim", "sched", "scaler", "metric", "loop", "callback")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "state_dict.", "ema_model.")
_COUNTER = "num_batches_tracked"


def states_in(root: object) -> dict[str, State]:
    """Every state dict in a tree of plain values, by its dotted key ("" is the tree itself), the outermost first.

    A state dict is a dictionary from names to tensors. What stands under an optimizer or its kin is none.
    """
    return _found(root, _as_state)


def found_in(root: object, kind: type[T]) -> dict[str, T]:
    """Every object of class `kind`, at the same places where a state dict is looked for, by its dotted key."""
    return _found(root, lambda value: value if isinstance(value, kind) else None)


def _found(root: object, wanted: Callable[[object], Any]) -> dict[str, Any]:
    """Look through dictionaries and lists, not very deep, for what `wanted` makes something of."""
    found: dict[str, Any] = {}
    level: list[tuple[str, object]] = [("", root)]
    for _ in range(_DEPTH):
        below: list[tuple[str, object]] = []
        for key, value in level:
            if (made := wanted(value)) is not None:
                found[key] = made
            else:
                below.extend((f"{key}.{name}".lstrip("."), inner) for name, inner in _inside(value))
        level = below
    return found


def _inside(value: object) -> Iterable[tuple[str, object]]:
    """The named parts of a container in which weights may stand."""
    if isinstance(value, dict):
        for key, inner in dict.items(value):
            if type(key) is str and not is_apart((key,)):
                yield key, inner
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), inner) for place, inner in enumerate(value))


def is_apart(path: Iterable[str]) -> bool:
    """Whether what stands under these keys belongs to an optimizer or its kin, not to a model."""
    return any(word in key.lower() for key in path for word in _NOT_WEIGHTS)


def _as_state(value: object) -> State | None:
    """The tensors of a state dict, as new objects, or None. `_extra_state` entries of modules are left out."""
    if not isinstance(value, dict):
        return None
    items = {key: inner for key, inner in dict.items(value) if not (type(key) is str and key.endswith("_extra_state"))}
    if not items or not all(type(key) is str and isinstance(inner, Tensor) for key, inner in items.items()):
        return None
    return {key: Tensor.detach(inner) for key, inner in items.items()}


def choose(states: Mapping[str, State], weights_key: str | None, path: Path, module: nn.Module) -> State:
    """The state dict under `weights_key`; without a key the only one, or the only one that shares names with `module`.

    Raises `UsageError` where there is nothing under the key or where several would do, and lists what there is.
    """
    listed = ", ".join(repr(key) for key in states if key) or "none below the top"
    if weights_key is not None:
        if weights_key not in states:
            raise UsageError(f"{path} has no weights under {weights_key!r}", hint=f"it has: {listed}")
        return states[weights_key]
    if not states:
        raise FileError(f"{path} holds no state dict", hint="save `model.state_dict()` or `{'state_dict': ...}`")
    names = module.state_dict().keys()
    fitting = [key for key in states if names & fit_prefix(states[key], module).keys()] or list(states)
    if len(fitting) > 1:
        keys = ", ".join(repr(key) for key in fitting)
        raise UsageError(f"{path} holds several sets of weights: {keys}", hint=f"choose: --weights-key {fitting[0]}")
    if fitting[0]:
        _log.info("weights taken from %r in %s", fitting[0], path)
    return states[fitting[0]]


def fit_prefix(state: State, module: nn.Module) -> State:
    """`state` without the wrapper prefixes (`module.`, `_orig_mod.`, …) that all keys share, if it then fits better."""
    own = module.state_dict()

    def fits(candidate: State) -> int:
        return sum(key in own and _shape(own[key]) == tensor.shape for key, tensor in candidate.items())

    best, stripped = state, state
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in stripped)), None):
        stripped = {key.removeprefix(prefix): tensor for key, tensor in stripped.items()}
        if fits(stripped) > fits(best):
            best = stripped
    return best


def load_into(module: nn.Module, state: State, path: Path) -> None:
    """Copy `state` into `module`, all of it.

    Raises `ArchitectureError` that lists the missing, unexpected and mis-shaped keys. Missing batch counters
    (`num_batches_tracked`) are let pass: evaluation does not use them.
    """
    own = module.state_dict()
    misshaped = [
        f"{key} ({_dims(tensor)} in the file, {_dims(own[key])} in the model)"
        for key, tensor in state.items()
        if key in own and _shape(own[key]) not in (None, tensor.shape)
    ]
    missing = unexpected = list[str]()
    if not misshaped:
        try:
            result = module.load_state_dict(state, strict=False)
        except Exception as error:
            raise ArchitectureError(
                f"the weights of {path} do not load into {type(module).__name__}: {error}", hint="is it the same model?"
            ) from error
        missing, unexpected = result.missing_keys, result.unexpected_keys
    else:
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
    missing = [key for key in missing if not key.endswith((_COUNTER, "_extra_state"))]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
    said = "; ".join(f"{len(keys)} {what}: {shortened(keys)}" for what, keys in problems if keys)
    if said:
        raise ArchitectureError(
            f"the weights of {path} do not fit {type(module).__name__}: {said}",
            hint="check --arch and --arch-arg against the code that trained it, or choose others with --weights-key",
        )


def nonfinite(module: nn.Module) -> dict[str, int]:
    """How many values are NaN or infinite, by name, of the parameters and floating buffers that have any.

    Minus infinity in a buffer is an attention mask, not an accident, and does not count.
    """
    counts: dict[str, int] = {}
    parameters = dict(module.named_parameters())
    for name, tensor in (*parameters.items(), *module.named_buffers()):
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta or tensor.is_quantized:
            continue
        values = tensor.detach() if tensor.layout is torch.strided else tensor.detach().coalesce().values()
        if values.element_size() == 1:
            values = values.float()  # the 8-bit floats have no isfinite
        wide = torch.promote_types(values.dtype, torch.float32)  # where a sum does not soon overflow
        if bool(values.sum(dtype=wide).isfinite()):
            continue  # one trip to memory: neither NaN nor infinity goes lost in a sum
        bad = values.numel() - int(torch.isfinite(values).count_nonzero())
        if name not in parameters:
            bad -= int(torch.isneginf(values).count_nonzero())
        if bad:
            counts[name] = bad
    return counts


def _shape(value: object) -> torch.Size | None:
    """The shape of a tensor that has one: a lazy parameter has none yet."""
    return value.shape if isinstance(value, Tensor) and not nn.parameter.is_lazy(value) else None


def _dims(value: object) -> str:
    """A shape as people write it: 64×3×7×7."""
    shape = _shape(value)
    return "unknown" if shape is None else "×".join(map(str, shape)) or "scalar"


def shortened(keys: list[str]) -> str:
    """The first few keys, and how many more."""
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
