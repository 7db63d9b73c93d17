"""The parameters and buffers of a module that constants of its recorded pass are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import reduce

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deadrelu.certify.tape import Node

TensorDim = tuple[str, int]
"""The name of a parameter or buffer, and a dimension of it."""


class NamedTensors:
    """The parameters and buffers of a module, found by where they lie in memory."""

    def __init__(self, module: nn.Module, nodes: Iterable[Node]) -> None:
        """Count how often the operators use each."""
        self._module = module
        self._names: dict[tuple[int, int], list[str]] = {}
        for name, tensor in (*module.named_parameters(remove_duplicate=False), *module.named_buffers()):
            if tensor.numel():
                self._names.setdefault(_where(tensor), []).append(name)
        leaves = (each for node in nodes if node.pick in (None, 0) for each in tree_leaves(node.args))
        self._uses = Counter(_where(each) for each in leaves if isinstance(each, Tensor))

    def name(self, tensor: Tensor) -> str:
        """Which one a constant is. Raises `ValueError` with the reason if it is none."""
        names = self._names.get(_where(tensor), [])
        if not names:
            raise ValueError("the weights of its layers are computed from others")
        if len(names) > 1 or self._uses[_where(tensor)] > 1:
            raise ValueError(f"`{names[0]}` is used more than once")
        if _long(tensor_named(self._module, names[0])) != _long(tensor):
            raise ValueError(f"`{names[0]}` is used in another form than it has")
        return names[0]

    def place(self, tensor: Tensor, dim: int) -> TensorDim:
        """Which dimension of which one a dimension of a constant is. Raises as `name` does."""
        name = self.name(tensor)
        long = [at for at, size in enumerate(tensor_named(self._module, name).shape) if size > 1]
        return name, long[sum(size > 1 for size in tensor.shape[:dim])] if tensor.shape[dim] > 1 else dim


def tensor_named(module: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of this name."""
    tensor: Tensor = reduce(getattr, name.split("."), module)  # type: ignore[assignment]
    return tensor


def _where(tensor: Tensor) -> tuple[int, int]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())


def _long(tensor: Tensor) -> list[tuple[int, int]]:
    """Size and stride of each axis that is longer than 1."""
    return [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
