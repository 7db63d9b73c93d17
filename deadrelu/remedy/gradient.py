"""Finds the units of swapped sites that a gradient of the output reaches, by backward passes through the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from deadrelu.measure.units import by_unit
from deadrelu.programs.modes import without_functions
from deadrelu.programs.program import Features
from deadrelu.programs.pytree import tensor_leaves

_STRIDE = 1e-3
"""The norm of the step, as a share of the norm of all parameters together."""


@dataclass
class NonzeroUnits:
    """The units of each call that have had a value other than zero; a call is a string, or a site of a graph.

    `features_of` gives the axes of a call's units, None to leave it out; `expected` are calls that have to be seen.
    """

    features_of: Callable[[Any], Features | None]
    expected: frozenset[str] = frozenset()
    seen: dict[Any, Tensor] = field(default_factory=dict)

    @classmethod
    def of_calls(cls, axes: Mapping[str, int | None]) -> NonzeroUnits:
        """For calls of modules, by their feature axes."""
        features = {call: Features(() if axis is None else (axis,)) for call, axis in axes.items()}
        return cls(features.get, frozenset(axes))

    @classmethod
    def of_sites(cls) -> NonzeroUnits:
        """For the leaky calls of a graph, which know their feature axes."""
        return cls(lambda site: site.features if site.features.by == "producer" and site.obstacle is None else None)

    def update(self, call: Any, values: Tensor) -> None:
        """Take one tensor in the shape of the pre-activation into account."""
        features = self.features_of(call)
        if features is not None:
            hit = (by_unit(features.apart(values.detach()), features) != 0).any(2).any(0).cpu()
            self.seen[call] = self.seen[call] | hit if call in self.seen else hit

    @property
    def is_complete(self) -> bool:
        """Whether every unit has had one."""
        return (
            bool(self.seen) and self.expected <= self.seen.keys() and all(bool(hit.all()) for hit in self.seen.values())
        )

    def compute(self) -> dict[str, tuple[bool, ...]]:
        """Whether each unit has had one, by call."""
        return {c if isinstance(c, str) else c.id: tuple(hit.tolist()) for c, hit in self.seen.items()}


Enter = Callable[[Any, Tensor], Tensor]
"""Called with a call and its pre-activation; returns the tensor that the activation gets instead."""


def own_gradient(module: nn.Module, z: Tensor) -> Tensor:
    """The derivative of the activation itself at each pre-activation."""
    with torch.enable_grad(), without_functions():
        x = z.detach().clone().requires_grad_()
        # clone: the module may work in place, and a leaf cannot be changed. forward: no hook must see this call.
        (gradient,) = torch.autograd.grad(module.forward(x.clone()).sum(), [x])
    return gradient


def backward(
    run: Callable[[], Any],
    tapped: Callable[[Enter], AbstractContextManager[None]],
    found: Callable[[Any, Tensor], None],
) -> str:
    """Pass `found` the gradient at each call's pre-activation; no `.grad` changes. Returns why not, or an empty string.

    The gradient is that of a random projection of the output. `tapped` calls a function at each call of a forward pass.
    """
    entered: list[Any] = []

    def enter(call: Any, z: Tensor) -> Tensor:
        z = z if z.requires_grad else z.detach().requires_grad_()
        # After an in-place module, `z` is another node of the graph: keep the edge of the value as it is now, and give
        # the module a copy, with its hook registered before the change.
        entered.append(get_gradient_edge(z))
        z = z.clone()
        z.register_hook(lambda gradient: found(call, gradient))
        return z

    try:
        with torch.enable_grad(), tapped(enter):
            loss = _project(run())
            if loss is None or not entered:
                return "the output does not depend on the swapped sites"
            torch.autograd.grad(loss, entered, allow_unused=True)
    except RuntimeError as error:
        return f"torch could not run backward: {str(error).splitlines()[0]}"
    return ""


def optimizer_step(module: nn.Module, run: Callable[[], Any]) -> None:
    """Make one short step of gradient descent on a random projection of the output, in every parameter of `module`."""
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    for parameter in parameters:
        parameter.requires_grad_()
    with torch.enable_grad():
        loss = _project(run())
        if loss is None:
            return
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    moved = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    length = float(sum(g.double().square().sum().cpu() for _, g in moved)) ** 0.5
    if length:
        size = float(sum(p.detach().double().square().sum().cpu() for p, _ in moved)) ** 0.5
        with torch.no_grad():
            for parameter, gradient in moved:
                parameter.sub_(gradient, alpha=_STRIDE * size / length)


def _project(output: Any) -> Tensor | None:
    """A random projection of the output, always the same one; None if nothing in it requires a gradient."""
    rng = torch.Generator().manual_seed(0)
    outputs = [x for x in tensor_leaves(output) if x.requires_grad]
    loss = sum((x * torch.randn(x.shape, generator=rng).to(x)).sum() for x in outputs)
    return loss if isinstance(loss, Tensor) else None


@contextmanager
def on_entry(modules: Mapping[str, nn.Module], enter: Callable[[str, nn.Module, Tensor], object]) -> Iterator[None]:
    """For one forward pass, call `enter` with each call of each module and its pre-activation.

    The module gets the tensor that `enter` returns, if it returns one.
    """
    count: Counter[str] = Counter()
    with ExitStack() as stack:
        for path, module in modules.items():

            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path) -> Any:
                z = args[0] if args else kwargs.get("input")
                if not isinstance(z, Tensor):
                    return None
                count[path] += 1
                put = enter(f"{path}#{count[path]}", module, z)
                if not isinstance(put, Tensor):
                    return None
                return ((put, *args[1:]), kwargs) if args else (args, {**kwargs, "input": put})

            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield
