"""A new start for dead units without moving the output: fresh weights in, zero weights out (Sokar et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.remedy.dataflow import Flow, trace
from deadrelu.remedy.swap import ModuleSwap


@dataclass(frozen=True)
class Restart:
    """The units of one module that were restarted, the names of the tensors that changed, and why nothing did."""

    units: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    obstacle: str = ""


def reinitialise(
    program: EagerProgram, batch: Batch, swaps: Sequence[ModuleSwap], *, slope: float
) -> Mapping[str, Restart]:
    """Restart the dead units of each swap, in place; by path of the module.

    Done before the modules are swapped. The weights into a unit are drawn from N(0, gain²/fan_in) with gain
    sqrt(2 / (1 + slope²)) (He et al. 2015, eq. 15), its bias is 0, its batch norm neutral; the weights out are 0.
    """
    axes = {swap.path: swap.sites[0].site.feature_axis for swap in swaps if not swap.sites[0].site.is_guessed}
    flows = trace(program, batch, {path: axis for path, axis in axes.items() if axis is not None})
    generator = torch.Generator().manual_seed(0)
    names = {id(t): name for name, t in (*program.module.named_parameters(), *program.module.named_buffers())}
    out: dict[str, Restart] = {}
    for swap in swaps:
        flow = flows.get(swap.path, Flow(obstacle="its units are not the indices of a known axis"))
        dead = tuple(sorted(set.intersection(*(set(stats.dead_units) for stats in swap.sites))))
        if not flow.obstacle and flow.producer is not None and len(flow.producer.weight) != swap.sites[0].site.units:
            flow.stop("its units are not the rows of the layer before it")
        if flow.obstacle:
            out[swap.path] = Restart(obstacle=flow.obstacle)
            continue
        for unit in dead:
            _restart(flow, unit, math.sqrt(2 / (1 + slope**2)), generator)
        out[swap.path] = Restart(dead, tuple(names[id(tensor)] for tensor in _touched(flow)))
    return out


@torch.no_grad()
def _restart(flow: Flow, unit: int, gain: float, generator: torch.Generator) -> None:
    """Fresh weights into one unit, zero weights out of it."""
    assert flow.producer is not None  # a flow without an obstacle has one
    row = flow.producer.weight[unit]
    row.copy_(torch.randn(row.shape, generator=generator) * gain / math.sqrt(row.numel()))
    if flow.producer.bias is not None:
        flow.producer.bias[unit] = 0
    for tensor, value in _normal(flow):
        tensor[unit] = value
    for consumer in flow.consumers:
        consumer.layer.weight[:, unit * consumer.width : (unit + 1) * consumer.width] = 0


def _touched(flow: Flow) -> list[torch.Tensor]:
    """The tensors that a restart changes."""
    assert flow.producer is not None
    layer = [flow.producer.weight] + ([flow.producer.bias] if flow.producer.bias is not None else [])
    return [*layer, *(tensor for tensor, _ in _normal(flow)), *(consumer.layer.weight for consumer in flow.consumers)]


def _normal(flow: Flow) -> list[tuple[torch.Tensor, float]]:
    """The vectors of the batch norm, if there is one, with the values that make it do nothing."""
    norm = flow.norm
    if norm is None:
        return []
    vectors = ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0), (norm.running_var, 1.0))
    return [(tensor, value) for tensor, value in vectors if tensor is not None]
