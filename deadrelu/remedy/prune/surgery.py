"""Cuts groups of entries out of a live module, and puts them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deadrelu.remedy.prune.couplings import Group
from deadrelu.remedy.prune.parameters import TensorDim, tensor_named


class Surgery:
    """The parameters of a module without the entries of some groups.

    With `in_place` a parameter stays the same object, which a graph knows; else it is another one.
    """

    def __init__(self, module: nn.Module, *, in_place: bool = False) -> None:
        """Nothing is cut yet."""
        self._in_place = in_place
        self.exact: dict[str, Tensor] = {}
        """The parameters to which constants were added, before they were rounded."""
        self._module = module
        self._original: dict[str, Tensor] = {}
        self._gone: list[Group] = []
        convs = {path: m for path, m in module.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}
        self._grouped = {f"{path}.weight" for path, conv in convs.items() if conv.groups > 1}

    def cut(self, groups: Iterable[Group]) -> None:
        """Remove groups."""
        groups = list(groups)
        self._gone += groups
        self._make(groups)

    def restore(self, groups: Iterable[Group]) -> None:
        """Put back what `cut` removed."""
        groups = list(groups)
        self._gone = [group for group in self._gone if group not in groups]
        self._make(groups)

    def length(self, place: TensorDim) -> int:
        """How many entries are left along a dimension."""
        name, dim = place
        return int(tensor_named(self._module, name).shape[dim])

    def _make(self, groups: Iterable[Group]) -> None:
        """Make the parameters and buffers of these groups again, without the entries of all that are gone."""
        for name in dict.fromkeys(name for group in groups for name in group.names):
            current = tensor_named(self._module, name)
            original = self._original.setdefault(name, current.detach())
            value = self._left_of(name, original)
            if self._in_place:
                current.data = value
            else:
                _replace(self._module, name, value, grouped=name in self._grouped)

    def _left_of(self, name: str, original: Tensor) -> Tensor:
        """What is left of a parameter."""
        value = original
        shifts = [group.shifts[name] for group in self._gone if name in group.shifts]
        if shifts:
            value = original.double() + torch.stack(shifts).sum(0)
        for dim in range(original.ndim):
            gone = {index for group in self._gone for index in group.entries.get((name, dim), ())}
            if gone:
                kept = [index for index in range(original.shape[dim]) if index not in gone]
                value = value.index_select(dim, torch.tensor(kept, device=value.device))
        self.exact.pop(name, None)
        if shifts:
            self.exact[name] = value
        return value.to(original.dtype).contiguous() if value is not original else original


def resize(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights of other sizes than the layers have, which take those; what else a state dict holds stays."""
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            continue
        grouped = getattr(module.get_submodule(name.rpartition(".")[0]), "groups", 1) > 1 and name.endswith(".weight")
        _replace(module, name, value, grouped=grouped)


def _replace(module: nn.Module, name: str, value: Tensor, *, grouped: bool = False) -> None:
    """Put another tensor in the place of a parameter or buffer, and its size into the layer's attributes.

    Of the weight of a `grouped` convolution whole groups come or go.
    """
    path, _, attribute = name.rpartition(".")
    owner, current = module.get_submodule(path), tensor_named(module, name)
    is_parameter = isinstance(current, nn.Parameter)
    setattr(owner, attribute, nn.Parameter(value, requires_grad=current.requires_grad) if is_parameter else value)
    if attribute == "weight" and isinstance(owner, nn.Linear):
        owner.out_features, owner.in_features = value.shape
    elif attribute == "weight" and isinstance(owner, nn.modules.conv._ConvNd):
        if grouped:
            owner.groups = owner.groups * len(value) // len(current)
        sizes = len(value), value.shape[1] * owner.groups
        owner.in_channels, owner.out_channels = sizes if owner.transposed else sizes[::-1]
    elif isinstance(owner, nn.modules.batchnorm._BatchNorm) and value.ndim:
        owner.num_features = len(value)
    elif isinstance(owner, nn.PReLU):
        owner.num_parameters = len(value)


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put every parameter, buffer and size of a module back where the block raises."""
    tables = [(m.__dict__, dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for m in module.modules()]
    try:
        yield
    except BaseException:
        for table, attributes, parameters, buffers in tables:
            table.clear()
            table.update(attributes)
            table["_parameters"].update(parameters)
            table["_buffers"].update(buffers)
        raise


def layer_sizes(module: nn.Module) -> Mapping[str, str]:
    """Each layer whose size may change, as it is constructed: `Linear(64, 128)`; other parameters by their shape."""
    found: dict[str, str] = {}
    for path, layer in module.named_modules():
        numbers = _numbers(layer)
        if numbers is not None:
            found[path] = f"{type(layer).__name__}({', '.join(map(str, numbers))})"
            continue
        for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            found[f"{path}.{name}".lstrip(".")] = str(list(tensor.shape))
    return found


def _numbers(layer: nn.Module) -> tuple[int | str, ...] | None:
    """The arguments of a layer that are sizes; None for one without."""
    match layer:
        case nn.Linear():
            return layer.in_features, layer.out_features
        case nn.modules.conv._ConvNd():
            grouped = (f"groups={layer.groups}",) if layer.groups > 1 else ()
            return layer.in_channels, layer.out_channels, *grouped
        case nn.modules.batchnorm._BatchNorm():
            return (layer.num_features,)
        case nn.PReLU():
            return (layer.num_parameters,)
    return None
