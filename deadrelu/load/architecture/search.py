"""Find the integer arguments with which a constructor makes a model that the weights fit, by building it."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deadrelu.load.architecture.build import build, constructor, is_hub
from deadrelu.load.architecture.constructor import Constructor
from deadrelu.load.architecture.fit import Misfit, fit_names, misfit
from deadrelu.load.weights import State

_CLASSES = (
    *("num_classes", "n_classes", "nb_classes", "num_labels", "n_labels", "num_outputs", "n_outputs", "n_out"),
    *("classes", "num_class", "output_dim", "out_dim", "out_features", "output_size", "out_channels", "n_actions"),
)
"""What the size of the last layer is called; these are tried first."""

_SECONDS = 5.0
_MOST_BUILDS = 200
_MOST_SIZES = 12
_MOST_ELEMENTS = 1 << 26
"""A guess may make a layer of the largest size squared; beyond this (256 MB) none is built outside the meta device."""

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
    with contextlib.suppress(Exception), _hushed(), torch.device("meta"), _Blank():
        return sum(p.numel() for p in build(spec, arguments).parameters() if not nn.parameter.is_lazy(p))
    return 0


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """What constructors print is said once: when the model that is scanned is built."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class _Blank(TorchFunctionMode):
    """Draws no random numbers: they would be lost, and for some of them the meta device first imports for seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Leave tensors as they are where they would be filled."""
        given = dict(kwargs or {})
        if func in (Tensor.normal_, Tensor.erfinv_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else given["tensor"]
        if func in (torch.randn, torch.rand):
            given.pop("generator", None)
            return torch.empty(*args, **given)
        return func(*args, **given)


class _Search:
    """One search: what is given, what was tried, and when to stop."""

    def __init__(self, spec: str, given: Mapping[str, object], state: State) -> None:
        self.spec, self.given, self.state = spec, given, state
        self.end = time.monotonic() + _SECONDS
        self.left = _MOST_BUILDS
        largest = max((size for tensor in state.values() for size in tensor.shape), default=0)
        self.devices = ("meta", "cpu") if largest**2 <= _MOST_ELEMENTS else ("meta",)

    def found(self) -> dict[str, int]:
        """The fewest integers that make the weights fit."""
        made_by = constructor(self.spec)
        if made_by is None and not is_hub(self.spec):
            return {}
        lacking = made_by.lacking(self.given) if made_by else ()
        if made_by and not all(_is_integer(made_by.parameters[name]) for name in lacking):
            return {}
        starts = [
            dict(zip(lacking, sizes, strict=True)) for sizes in itertools.islice(self._sizes(lacking), _MOST_BUILDS)
        ]
        tries = itertools.chain(starts, (added for start in starts for added in self._changed(made_by, start)))
        added = next((added for added in tries if self._fits(added)), {})
        if any(self._fits({**added, name: other}) for name in lacking for other in _OTHERS if other != added.get(name)):
            return {}  # the shapes leave a choice: a number of heads, say, changes none of them
        return dict(sorted(added.items(), key=lambda item: item[0] not in _CLASSES))

    def _changed(self, made_by: Constructor | None, start: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """The arguments `start` with one integer more that differs from its default, then with two, and so on."""
        candidates = self._changes(made_by, start)
        names = sorted(candidates, key=lambda name: name not in _CLASSES)
        for number in range(1, min(len(names), _MOST_TOGETHER) + 1):
            for chosen in itertools.combinations(names, number):
                for values in itertools.product(*(candidates[name] for name in chosen)):
                    yield {**start, **dict(zip(chosen, values, strict=True))}

    def _fits(self, added: Mapping[str, int]) -> bool:
        """Whether every weight fits a model that is built so."""
        module = self._built(added)
        return module is not None and not misfit(module, fit_names(self.state, module))

    def _built(self, added: Mapping[str, int]) -> nn.Module | None:
        """The model with these arguments; None if it cannot be built, or time is up."""
        for device in self.devices:
            if self.left <= 0 or time.monotonic() > self.end:
                return None
            self.left -= 1
            with contextlib.suppress(Exception), torch.device(device), _Blank():
                return build(self.spec, {**self.given, **added})
        return None

    def _sizes(self, lacking: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """For arguments without a value: the sizes in the file, the last layer's first, and how many parts it has."""
        sizes = [size for tensor in reversed(self.state.values()) for size in tensor.shape if size > 0]
        known = list(dict.fromkeys([*sizes, *_depths(self.state).values()]))[:_MOST_SIZES]
        return itertools.product(*([known] * len(lacking)))

    def _changes(self, made_by: Constructor | None, start: Mapping[str, int]) -> dict[str, list[int]]:
        """For integer arguments: what each would be, if the sizes that differ between model and file came from it."""
        module = self._built(start)
        if module is None:
            return {}
        state = fit_names(self.state, module)
        pairs = [*_size_pairs(misfit(module, state)), *_depth_pairs(module.state_dict(), state)]
        found: dict[str, list[int]] = {}
        if any(own in start.values() for own, _ in pairs):
            return found  # what was put in comes out as a size that is wrong
        for name, value in _integers(made_by, self.given, start).items():
            wanted = (_scaled(value, own, theirs) for own, theirs in pairs)
            values = list(dict.fromkeys(size for size in wanted if size is not None and size != value))
            if values:
                found[name] = values[:_MOST_SIZES]
        return found


def _integers(
    made_by: Constructor | None, given: Mapping[str, object], start: Mapping[str, int]
) -> dict[str, int | None]:
    """The integer arguments by name, with their value; a hub's number of classes, whose value is its own affair."""
    if made_by is None:
        return {"num_classes": None}
    parameters = {name: each for name, each in made_by.parameters.items() if name not in start}
    values = {name: given.get(name, each.default) for name, each in parameters.items()}
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
