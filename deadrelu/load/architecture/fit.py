"""Choose a state dict and fit it to a module: names without what wrappers added to them, and what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deadrelu.errors import ArchitectureError, FileError, UsageError
from deadrelu.load.weights import State, shortened
from deadrelu.programs.code import blame
from deadrelu.text.spelling import did_you_mean

_log = logging.getLogger("deadrelu")

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "state_dict.", "ema_model.")
_WRAPPERS = ("_orig_mod", "module")
"""What torch.compile, DataParallel and similar wrappers add to the names of what they wrap, anywhere in a name."""

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Misfit:
    """The keys that the file lacks, those that the model lacks, and those of two shapes: (model's, file's)."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: Mapping[str, tuple[torch.Size, torch.Size]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def error(self, path: Path, module: nn.Module, hint: str) -> ArchitectureError:
        """The refusal, which lists the keys."""
        shapes = [
            f"{key} ({_dims(theirs)} in the file, {_dims(own)} in the model)"
            for key, (own, theirs) in self.misshaped.items()
        ]
        problems = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        said = "; ".join(f"{len(keys)} {what}: {shortened(list(keys))}" for what, keys in problems if keys)
        hint = (
            hint or "check --arch and --arch-arg against the code that trained it, or choose others with --weights-key"
        )
        return ArchitectureError(f"the weights of {path} do not fit {type(module).__name__}: {said}", hint=hint)


def choose(states: Mapping[str, State], weights_key: str | None, path: Path, module: nn.Module) -> State:
    """The state dict under `weights_key`; without a key the only one, or the only one that shares names with `module`.

    Raises `UsageError` where there is nothing under the key or where several would do, and lists what there is.
    """
    listed = ", ".join(repr(key) for key in states if key) or "none below the top"
    if weights_key is not None:
        if weights_key not in states:
            near = did_you_mean(weights_key, filter(None, states), write="--weights-key {}")
            raise UsageError(f"{path} has no weights under {weights_key!r}", hint=f"{near} it has: {listed}".strip())
        return states[weights_key]
    if not states:
        raise FileError(f"{path} holds no state dict", hint="save `model.state_dict()` or `{'state_dict': ...}`")
    names = module.state_dict().keys()
    fitting = [key for key in states if names & fit_names(states[key], module).keys()] or list(states)
    if len(fitting) > 1:
        keys = ", ".join(repr(key) for key in fitting)
        raise UsageError(f"{path} holds several sets of weights: {keys}", hint=f"choose: --weights-key {fitting[0]}")
    if fitting[0]:
        _log.info("weights taken from %r in %s", fitting[0], path)
    return states[fitting[0]]


def fit_names(state: State, module: nn.Module) -> State:
    """`state` under the names of `module`: without what its wrappers put into them, where it then fits better.

    That is a prefix that all keys share (`module.`, `model.`, …), and the names of wrappers anywhere in a key.
    """
    own = module.state_dict()

    def fits(candidate: State) -> int:
        return sum(key in own and _shape(own[key]) == tensor.shape for key, tensor in candidate.items())

    best = state
    for candidate in (*_stripped(state), *_stripped(_renamed(state, own))):
        if fits(candidate) > fits(best):
            best = candidate
    return best


def _stripped(state: State) -> Iterator[State]:
    """The state dict without the first of its prefixes, without the first two, and so on."""
    yield state
    while prefix := next((p for p in _PREFIXES if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        yield state


def _renamed(state: State, own: Mapping[str, object]) -> State:
    """The state dict under the module's own names where the two differ by wrappers only, else without wrappers."""
    theirs = {bare(key): key for key in own}
    names = {key: theirs.get(bare(key), bare(key)) for key in state}
    if len(theirs) < len(own) or len(set(names.values())) < len(names):
        return state  # two keys would become one
    return {names[key]: tensor for key, tensor in state.items()}


def bare(key: str) -> str:
    """A key without the names of wrappers."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def misfit(module: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """What of the state dict does not fit, by names and shapes alone.

    Batch counters (`num_batches_tracked`) may be missing: evaluation does not use them.
    """
    own = module.state_dict()
    shapes = {key: (_shape(own[key]), tensor.shape) for key, tensor in state.items() if key in own}
    return Misfit(
        missing=tuple(key for key in own if key not in state and not _may_be_missing(key)),
        unexpected=tuple(key for key in state if key not in own),
        misshaped={k: (mine, theirs) for k, (mine, theirs) in shapes.items() if mine is not None and mine != theirs},
    )


def _may_be_missing(key: str) -> bool:
    return key.endswith((_COUNTER, "_extra_state"))


def load_into(module: nn.Module, state: State, path: Path) -> Misfit:
    """Copy `state` into `module`, and return what of it does not fit; a module may rename keys while it loads.

    Raises `ArchitectureError` if the module's own loading raises.
    """
    found = misfit(module, state)
    if found.misshaped:
        return found
    try:
        result = module.load_state_dict(state, strict=False)
    except Exception as error:
        raise ArchitectureError(
            f"the weights of {path} do not load into {type(module).__name__}: {blame(error)}",
            hint="is it the same model?",
        ) from error
    missing = tuple(key for key in result.missing_keys if not _may_be_missing(key))
    return Misfit(missing, tuple(result.unexpected_keys), {})


def _shape(value: object) -> torch.Size | None:
    """The shape of a tensor that has one: a lazy parameter has none yet."""
    return value.shape if isinstance(value, Tensor) and not nn.parameter.is_lazy(value) else None


def _dims(shape: torch.Size) -> str:
    """A shape as people write it: 64×3×7×7."""
    return "×".join(map(str, shape)) or "scalar"
