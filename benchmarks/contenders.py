"""The ways of watching activations that are held against each other, each as a pass over the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.networks import FunctionalBlock
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import site_stats
from deadrelu.measure.scan import measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.report import Stats

Pass = Callable[[nn.Module, Iterable[Tensor]], object]
See = Callable[[Tensor], None]


def plain(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Nothing but the forward pass: what all are measured against."""
    with torch.inference_mode():
        for x in batches:
            model(x)


def ours(stats: Stats) -> Pass:
    """A whole scan: set up, hooks, counting, the figures of every unit."""

    def run(model: nn.Module, batches: Iterable[Tensor]) -> object:
        plan = Plan(stats=stats)
        return site_stats(measure(EagerProgram(model), (Batch(len(x), (x,)) for x in batches), plan), plan)

    return run


def interception(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Our way of seeing every call, with nothing done there: what is left is the cost of counting."""
    with EagerProgram(model).watched(lambda _site, _z: None) as run:
        for x in batches:
            run(Batch(len(x), (x,)))


class _Relus(TorchFunctionMode):
    """Shows the output of every ReLU, module or function: the least that a peer needs to see the same calls."""

    def __init__(self, see: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.see, self.place = see, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (torch.relu, nn.functional.relu, torch.relu_):
            with torch._C.DisableTorchFunction():
                self.see(self.place, output)
            self.place += 1
        return output


def _watching(model: nn.Module, batches: Iterable[Tensor], see: Callable[[int, Tensor], None]) -> None:
    """Run with forward hooks on every nn.ReLU, or with a function mode where the model calls functions."""
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    if any(isinstance(m, FunctionalBlock) for m in model.modules()):
        relus = []
    handles = [m.register_forward_hook(lambda _m, _i, out, n=n: see(n, out)) for n, m in enumerate(relus)]
    try:
        with torch.inference_mode():
            for x in batches:
                if relus:
                    model(x)
                else:
                    with _Relus(see):
                        model(x)
    finally:
        for handle in handles:
            handle.remove()


def _rest(out: Tensor) -> list[int]:
    """The dimensions that are no features: channels of a map on 1, otherwise features at the end."""
    return [d for d in range(out.ndim) if d != (1 if out.ndim == 4 else out.ndim - 1)]


def naive(model: nn.Module, batches: Iterable[Tensor]) -> object:
    """`(out > 0).sum(dims)` in a hook, the counts added up."""
    counts: dict[int, Tensor] = {}

    def see(place: int, out: Tensor) -> None:
        fired = (out > 0).sum(_rest(out))
        counts[place] = counts[place] + fired if place in counts else fired

    _watching(model, batches, see)
    return counts


def store_all(model: nn.Module, batches: Iterable[Tensor]) -> object:
    """Keep every activation, and reduce at the end."""
    kept: dict[int, list[Tensor]] = {}
    _watching(model, batches, lambda place, out: kept.setdefault(place, []).append(out.clone()))
    return {place: sum((out > 0).sum(_rest(out)) for out in outs) for place, outs in kept.items()}


def fastai_style(model: nn.Module, batches: Iterable[Tensor]) -> object:
    """What fastai's `ActivationStats` takes of a whole layer in each batch: mean, std and the share near zero."""
    stats: list[dict[str, float]] = []

    def see(_place: int, out: Tensor) -> None:
        near = (out <= 0.05).long().sum().item() / out.numel()
        stats.append({"mean": out.mean().item(), "std": out.std().item(), "near_zero": near})

    _watching(model, batches, see)
    return stats


class _Counter(TorchDispatchMode):
    """Counts at every relu operator."""

    def __init__(self, counts: dict[int, Tensor]) -> None:
        super().__init__()
        self.counts, self.place = counts, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.relu, torch.ops.aten.relu_):
            fired = (output > 0).sum(_rest(output))
            self.counts[self.place] = self.counts.get(self.place, torch.zeros(())) + fired
            self.place += 1
        return output


def dispatch_mode(model: nn.Module, batches: Iterable[Tensor]) -> object:
    """The naive count in a `TorchDispatchMode`, which sees every operator."""
    counts: dict[int, Tensor] = {}
    with torch.no_grad():  # in inference mode no dispatch mode is asked about composite operators
        for x in batches:
            with _Counter(counts):
                model(x)
    return counts


CONTENDERS: dict[str, Pass] = {
    "plain": plain,
    "interception": interception,
    "ours, fired": ours("fired"),
    "ours, rates": ours("rates"),
    "ours, full": ours("full"),
    "naive": naive,
    "fastai-style": fastai_style,
    "dispatch mode": dispatch_mode,
    "store all": store_all,
}
