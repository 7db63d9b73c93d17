"""What a swap has changed, measured on the same batches: drift, gradient, dead units, parameters."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deadrelu.measure.units import by_unit
from deadrelu.programs.dice import seed_all
from deadrelu.programs.nest import tensors_in
from deadrelu.programs.program import Batch, Features, Program
from deadrelu.remedies import Drift


@dataclass(frozen=True)
class Evidence:
    """What two programs showed side by side.

    By call of a swapped module (`path#1` is its first), per unit: `alive` says whether the activation's own gradient
    was anywhere other than zero, `reached` whether that of a random projection of the output got to it. `no_gradient`
    is the reason where there was no backward pass.
    """

    drift: Drift
    alive: Mapping[str, tuple[bool, ...]]
    reached: Mapping[str, tuple[bool, ...]]
    parameters_changed: tuple[str, ...]
    parameters_added: tuple[str, ...]
    modules_changed: tuple[str, ...]
    no_gradient: str = ""


class Comparable(Program, Protocol):
    """A program with a module that holds its weights."""

    @property
    def module(self) -> nn.Module:
        """Where the weights are."""


def compare(
    before: Comparable, after: Comparable, batches: Iterable[Batch], swapped: Mapping[str, int | None]
) -> Evidence:
    """Run both programs over `batches`; `swapped` maps each call of a swapped module (`path#1`) to its feature axis."""
    drift, alive, reached = _DriftTally(), _PerUnit(swapped), _PerUnit(swapped)
    reason = "there was no batch"
    modules = {path: after.module.get_submodule(path) for path in {call.rpartition("#")[0] for call in swapped}}
    with ExitStack() as stack:
        run_before = stack.enter_context(before.watched(lambda *_: None))
        run_after = stack.enter_context(after.watched(lambda *_: None))
        for index, batch in enumerate(batches):
            seed_all(index)  # a model that draws random numbers in eval mode must draw the same ones twice
            old = run_before(copy.deepcopy(batch))
            seed_all(index)
            with _on_entry(modules, lambda call, module, z: alive.add(call, _own_gradient(module, z))):
                new = run_after(copy.deepcopy(batch))
            drift.add(old, new)
            if index == 0 and modules:
                reason = _backward(lambda: run_after(copy.deepcopy(batch)), modules, reached.add)  # noqa: B023
    changed, added = _changed(before.module, after.module)
    return Evidence(
        drift=drift.result(),
        alive=alive.result(),
        reached=reached.result(),
        parameters_changed=changed,
        parameters_added=added,
        modules_changed=_modules_changed(before.module, after.module),
        no_gradient=reason,
    )


def _own_gradient(module: nn.Module, z: Tensor) -> Tensor:
    """The derivative of the activation itself at each pre-activation."""
    with torch.enable_grad(), torch._C.DisableTorchFunction():
        x = z.detach().clone().requires_grad_()
        # clone: the module may work in place, and a leaf cannot be changed. forward: no hook must hear of this.
        (gradient,) = torch.autograd.grad(module.forward(x.clone()).sum(), [x])
    return gradient


def _backward(run: Callable[[], Any], modules: Mapping[str, nn.Module], found: Callable[[str, Tensor], None]) -> str:
    """One backward pass of a random projection of the output, leaving every `.grad` as it is; why not, if not."""
    entered: list[Tensor] = []

    def enter(call: str, _: nn.Module, z: Tensor) -> Tensor:
        z = z if z.requires_grad else z.detach().requires_grad_()
        z = z.clone()  # what the module works on in place is this copy, and the hook belongs to it before that
        z.register_hook(lambda gradient: found(call, gradient))
        entered.append(z)
        return z

    try:
        with torch.enable_grad(), _on_entry(modules, enter):
            outputs = [x for x in tensors_in(run()) if x.requires_grad]
            dice = torch.Generator().manual_seed(0)
            loss = sum((x * torch.randn(x.shape, generator=dice).to(x)).sum() for x in outputs)
            if not isinstance(loss, Tensor):
                return "the output does not depend on the swapped sites"
            torch.autograd.grad(loss, entered, allow_unused=True)
    except RuntimeError as error:
        return f"torch could not run backward: {str(error).splitlines()[0]}"
    return ""


@contextmanager
def _on_entry(modules: Mapping[str, nn.Module], enter: Callable[[str, nn.Module, Tensor], object]) -> Iterator[None]:
    """For one forward pass, call `enter` with each call of each module and its pre-activation.

    A tensor that it returns takes the place of that.
    """
    count: Counter[str] = Counter()
    with ExitStack() as stack:
        for path, module in modules.items():

            def hook(module: nn.Module, args: tuple[Any, ...], path: str = path) -> Any:
                count[path] += 1
                put = enter(f"{path}#{count[path]}", module, args[0]) if args else None
                return (put, *args[1:]) if isinstance(put, Tensor) else None

            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@dataclass
class _PerUnit:
    """For each call of each module, which units have shown a value other than zero."""

    axes: Mapping[str, int | None]
    seen: dict[str, Tensor] = field(default_factory=dict)

    def add(self, call: str, values: Tensor) -> None:
        """Take in one tensor with the shape of the pre-activation."""
        if call in self.axes:
            hit = (by_unit(values.detach(), self._features(call)) != 0).any(2).any(0).cpu()
            self.seen[call] = self.seen[call] | hit if call in self.seen else hit

    def _features(self, call: str) -> Features:
        axis = self.axes[call]
        return Features(() if axis is None else (axis,))

    def result(self) -> dict[str, tuple[bool, ...]]:
        """Per call, per unit."""
        return {call: tuple(hit.tolist()) for call, hit in self.seen.items()}


@dataclass
class _DriftTally:
    """Sums over the outputs of two programs."""

    moved: float = 0.0
    size: float = 0.0
    largest: float = 0.0
    rows: int = 0
    same: int = 0
    classes: bool = True

    def add(self, old: Any, new: Any) -> None:
        """Take in the outputs of one batch."""
        before, after = list(_floats(old)), list(_floats(new))
        for a, b in zip(before, after, strict=True):
            a, b = a.detach().double(), b.detach().double()
            if a.numel():
                self.moved += float((b - a).square().sum())
                self.size += float(a.square().sum())
                self.largest = max(self.largest, float((b - a).abs().max()))
        if self.classes and len(before) == 1 and before[0].ndim == 2 and before[0].shape[1] > 1:
            self.rows += len(before[0])
            self.same += int((before[0].argmax(1) == after[0].argmax(1)).sum())
        else:
            self.classes = False

    def result(self) -> Drift:
        """The drift over all batches."""
        relative = math.sqrt(self.moved / self.size) if self.size else (None if self.moved else 0.0)
        shown = self.classes and self.rows > 0
        return Drift(relative_l2=relative, largest=self.largest, same_argmax=self.same / self.rows if shown else None)


def _changed(before: nn.Module, after: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parameters and buffers that differ, of those that both have, and those that are new."""
    old, new = before.state_dict(), after.state_dict()
    changed = (name for name, value in old.items() if name in new and not _same(value, new[name]))
    return tuple(changed), tuple(name for name in new if name not in old)


def _modules_changed(before: nn.Module, after: nn.Module) -> tuple[str, ...]:
    """The paths at which one program has another class of module than the other, or none."""
    old = {path: type(m).__qualname__ for path, m in before.named_modules(remove_duplicate=False)}
    new = {path: type(m).__qualname__ for path, m in after.named_modules(remove_duplicate=False)}
    return tuple(path for path in {**old, **new} if old.get(path) != new.get(path))


def _same(a: Any, b: Any) -> bool:
    """Bit for bit, so that NaN equals itself."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.is_quantized or torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _floats(output: Any) -> Iterator[Tensor]:
    """The floating tensors of an output."""
    return (tensor for tensor in tensors_in(output) if tensor.is_floating_point())
