"""Cuts units out of a live module, and puts them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deadrelu.remedy.prune.couplings import Slice

_SIZES: tuple[tuple[type[nn.Module], dict[tuple[str, int], str]], ...] = (
    (nn.Linear, {("weight", 0): "out_features", ("weight", 1): "in_features"}),
    (nn.modules.conv._ConvNd, {("weight", 0): "out_channels", ("weight", 1): "in_channels"}),
    (nn.modules.batchnorm._BatchNorm, {("running_mean", 0): "num_features", ("weight", 0): "num_features"}),
)
"""Which attribute of a module is the size of which dimension."""


class Surgery:
    """The parameters of a module with units cut out of them; each cut is of the original entries."""

    def __init__(self, module: nn.Module) -> None:
        """Nothing is cut yet."""
        self._module = module
        self._original: dict[str, Tensor] = {}
        self._cut: dict[tuple[str, int], set[int]] = {}

    def cut(self, slices: Iterable[Slice], units: Iterable[int]) -> None:
        """Remove units; their entries are counted as in the module before any cut."""
        self._change(slices, list(units), set.union)

    def restore(self, slices: Iterable[Slice], units: Iterable[int]) -> None:
        """Put back what `cut` removed."""
        self._change(slices, list(units), set.difference)

    def _change(
        self, slices: Iterable[Slice], units: list[int], change: Callable[[set[int], set[int]], set[int]]
    ) -> None:
        """Change which entries are cut, and make the parameters again."""
        for each in slices:
            places = {place for unit in units for place in each.places.get(unit, ())}
            self._cut[each.name, each.dim] = change(self._cut.get((each.name, each.dim), set()), places)
            self._make(each.name)

    def _make(self, name: str) -> None:
        """A parameter or buffer without the entries that are cut."""
        path, _, attribute = name.rpartition(".")
        owner = self._module.get_submodule(path)
        current = getattr(owner, attribute)
        original = self._original.setdefault(name, current.detach())
        value = original
        for dim in range(original.ndim):
            gone = self._cut.get((name, dim), set())
            if gone:
                kept = [place for place in range(original.shape[dim]) if place not in gone]
                value = value.index_select(dim, torch.tensor(kept, device=value.device))
        value = value.contiguous() if value is not original else original
        if isinstance(current, nn.Parameter):
            setattr(owner, attribute, nn.Parameter(value, requires_grad=current.requires_grad))
        else:
            setattr(owner, attribute, value)
        for kind, sizes in _SIZES:
            if isinstance(owner, kind):
                for (held, dim), size in sizes.items():
                    if held == attribute:
                        setattr(owner, size, value.shape[dim])


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put every parameter, buffer and size of a module back where the block raises."""
    tables = [(m.__dict__, dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for m in module.modules()]
    try:
        yield
    except BaseException:
        for held, attributes, parameters, buffers in tables:
            held.clear()
            held.update(attributes)
            held["_parameters"].update(parameters)
            held["_buffers"].update(buffers)
        raise


def layer_sizes(module: nn.Module) -> Mapping[str, str]:
    """Each layer whose size may change, as it is constructed: `Linear(64, 128)`."""
    found: dict[str, str] = {}
    for path, layer in module.named_modules():
        for kind, sizes in _SIZES:
            if isinstance(layer, kind):
                numbers = {name: getattr(layer, name) for name in dict.fromkeys(sizes.values())}
                ordered = sorted(numbers, key=lambda name: not name.startswith("in"))
                found[path] = f"{type(layer).__name__}({', '.join(str(numbers[name]) for name in ordered)})"
    return found
