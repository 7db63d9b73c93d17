"""Find the integer arguments with which a constructor makes a model that the weights fit, by building it."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from deadrelu.load.architecture import build, constructor, is_hub
from deadrelu.load.constructor import Constructor
from deadrelu.load.fit import Misfit, fit_names, misfit
from deadrelu.load.weights import State

_CLASSES = (
    *("num_classes", "n_classes", "nb_classes", "num_labels", "n_labels", "num_outputs", "n_outputs", "n_out"),
    *("classes", "num_class", "output_dim", "out_dim", "out_features", "output_size", "out_channels", "n_actions"),
)
"""What the size of the last layer is called; these are tried first."""

_SECONDS = 5.0
_MOST_BUILDS = 200
_MOST_SIZES = 12
_MOST_TOGETHER = 3
_OTHERS = (1, 2, 3, 4, 8)
"""Values that are tried beside the one that was found: where they fit too, the shapes say nothing of the argument."""


def fitting_arguments(spec: str, given: Mapping[str, object], state: State) -> dict[str, int]:
    """The integers to add to the arguments `given`, so that every weight fits; empty if none are found in seconds.

    The model is built on the meta device where its constructor allows that, which takes no memory.
    """
    with _hushed():
        return _Search(spec, given, state).found()


def elements(spec: str, arguments: Mapping[str, object]) -> int:
    """How many values the model has that is built with these arguments; 0 if that cannot be told on the meta device."""
    with contextlib.suppress(Exception), _hushed(), torch.device("meta"):
        return sum(p.numel() for p in build(spec, arguments).parameters() if not nn.parameter.is_lazy(p))
    return 0


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """What constructors print is said once: when the model that is scanned is built."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class _Search:
    """One search: what is given, what was tried, and when to stop."""

    def __init__(self, spec: str, given: Mapping[str, object], state: State) -> None:
        self.spec, self.given, self.state = spec, given, state
        self.end = time.monotonic() + _SECONDS
        self.left = _MOST_BUILDS

    def found(self) -> dict[str, int]:
        """The fewest integers that make the weights fit."""
        made_by = constructor(self.spec)
        if made_by is None and not is_hub(self.spec):
            return {}
        lacking = made_by.lacking(self.given) if made_by else ()
        if made_by and not all(_is_integer(made_by.parameters[name]) for name in lacking):
            return {}
        candidates = self._sizes(lacking) if lacking else self._changes(made_by)
        names = sorted(candidates, key=lambda name: name not in _CLASSES)
        fewest, most = (len(lacking), len(lacking)) if lacking else (1, min(len(names), _MOST_TOGETHER))
        for number in range(fewest, min(most, _MOST_TOGETHER) + 1):
            for chosen in itertools.combinations(names, number):
                for values in itertools.product(*(candidates[name] for name in chosen)):
                    added = dict(zip(chosen, values, strict=True))
                    if self._fits(added):
                        return added if self._is_only(added, lacking) else {}
        return {}

    def _fits(self, added: Mapping[str, int]) -> bool:
        """Whether every weight fits a model that is built so."""
        module = self._built(added)
        return module is not None and not misfit(module, fit_names(self.state, module))

    def _is_only(self, added: Mapping[str, int], lacking: Sequence[str]) -> bool:
        """Whether the shapes leave no choice: a number of heads, say, changes none of them."""
        return not any(
            self._fits({**added, name: other}) for name in lacking for other in _OTHERS if other != added[name]
        )

    def _built(self, added: Mapping[str, int]) -> nn.Module | None:
        """The model with these arguments; None if it cannot be built, or time is up."""
        for device in ("meta", "cpu"):
            if self.left <= 0 or time.monotonic() > self.end:
                return None
            self.left -= 1
            with contextlib.suppress(Exception), torch.device(device):
                return build(self.spec, {**self.given, **added})
        return None

    def _sizes(self, lacking: Iterable[str]) -> dict[str, list[int]]:
        """For arguments without a value: the sizes in the file, the last layer's first."""
        sizes = dict.fromkeys(size for tensor in reversed(self.state.values()) for size in tensor.shape if size > 0)
        counts = dict.fromkeys(_depths(self.state).values())
        return {name: [*sizes, *(count for count in counts if count not in sizes)][:_MOST_SIZES] for name in lacking}

    def _changes(self, made_by: Constructor | None) -> dict[str, list[int]]:
        """For integer arguments: what each would be, if the sizes that differ between model and file came from it."""
        module = self._built({})
        if module is None:
            return {}
        state = fit_names(self.state, module)
        pairs = [*_size_pairs(misfit(module, state)), *_depth_pairs(module.state_dict(), state)]
        found: dict[str, list[int]] = {}
        for name, value in _integers(made_by, self.given).items():
            wanted = (_scaled(value, own, theirs) for own, theirs in pairs)
            values = list(dict.fromkeys(size for size in wanted if size is not None and size != value))
            if values:
                found[name] = values[:_MOST_SIZES]
        return found


def _integers(made_by: Constructor | None, given: Mapping[str, object]) -> dict[str, int | None]:
    """The integer arguments by name, with their value; a hub's number of classes, whose value is its own affair."""
    if made_by is None:
        return {"num_classes": None}
    values = {name: given.get(name, each.default) for name, each in made_by.parameters.items()}
    known: dict[str, int | None] = {name: value for name, value in values.items() if type(value) is int}
    return known | (dict.fromkeys(_CLASSES[:3]) if made_by.takes_any else {})


def _is_integer(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (int, "int", inspect.Parameter.empty)


def _scaled(value: int | None, own: int, theirs: int) -> int | None:
    """What an argument has to be for a size to become `theirs`, if the size is a multiple of it; None if it cannot."""
    if value is None:
        return theirs
    if value <= 0 or own % value or (theirs * value) % own:
        return None
    return theirs * value // own


def _size_pairs(found: Misfit) -> Iterator[tuple[int, int]]:
    """The sizes that differ, the model's and the file's: those of the last tensors first."""
    for own, theirs in reversed(list(found.misshaped.values())):
        if len(own) == len(theirs):
            yield from ((a, b) for a, b in zip(own, theirs, strict=True) if a != b and a > 0 and b > 0)


def _depth_pairs(own: Iterable[str], theirs: Iterable[str]) -> Iterator[tuple[int, int]]:
    """How many numbered parts model and file have under one name (`blocks.0` to `blocks.5`: 6), where that differs."""
    mine, files = _depths(own), _depths(theirs)
    yield from ((mine[name], files[name]) for name in mine if files.get(name, mine[name]) != mine[name])


def _depths(keys: Iterable[str]) -> dict[str, int]:
    """The number of numbered parts by the name before the number."""
    found: dict[str, set[str]] = {}
    for key in keys:
        parts = key.split(".")
        for place, part in enumerate(parts):
            if part.isdecimal() and place:
                found.setdefault(".".join(parts[:place]), set()).add(part)
    return {name: len(numbers) for name, numbers in found.items()}


def flags(arguments: Mapping[str, int]) -> str:
    """Integer arguments as they are written on the command line."""
    return " ".join(f"--arch-arg {name}={value}" for name, value in arguments.items())
