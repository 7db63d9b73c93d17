"""Restarts dead units without moving the output: fresh weights in, zero weights out (Sokar et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deadrelu.programs.eager.dataflow import Flow
from deadrelu.remedy.moments import UnitEntries
from deadrelu.remedy.variants import dead_in_all
from deadrelu.report import SiteStats


@dataclass(frozen=True)
class Restart:
    """The restarted units of one module and the names of the tensors that changed, or why there are none.

    `entries` are where the units are in the parameters among these tensors.
    """

    units: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    obstacle: str = ""
    entries: tuple[UnitEntries, ...] = ()


def reinitialise(
    module: nn.Module,
    sites: Mapping[str, Sequence[SiteStats]],
    flows: Mapping[str, Flow],
    *,
    slope: float,
    seed: int = 0,
) -> Mapping[str, Restart]:
    """Restart the units that are dead in all `sites` of an activation module, in place; by its path.

    The weights into a unit are drawn from N(0, gain²/fan_in) with gain sqrt(2 / (1 + slope²)) (He et al. 2015, eq. 15),
    its bias is 0, its batch norm neutral; the weights out are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    names = {id(t): name for name, t in (*module.named_parameters(), *module.named_buffers())}
    restarts: dict[str, Restart] = {}
    for path, calls in sites.items():
        flow = flows.get(path, Flow(obstacle="its units are not the indices of a known axis"))
        if not flow.obstacle and flow.producer is not None and len(flow.producer.weight) != calls[0].site.units:
            flow.stop("its units are not the rows of the layer before it")
        if flow.obstacle:
            restarts[path] = Restart(obstacle=flow.obstacle)
            continue
        dead = tuple(sorted(dead_in_all(calls)))
        for unit in dead:
            _restart(flow, unit, math.sqrt(2 / (1 + slope**2)), generator)
        entries = entries_of(flow)
        touched = [*(each.parameter for each in entries), *_running(flow)]
        restarts[path] = Restart(dead, tuple(names[id(tensor)] for tensor in touched), entries=entries)
    return restarts


@torch.no_grad()
def _restart(flow: Flow, unit: int, gain: float, generator: torch.Generator) -> None:
    """Draw fresh weights into one unit, and set the weights out of it to zero."""
    assert flow.producer is not None  # a flow without an obstacle has one
    row = flow.producer.weight[unit]
    row.copy_(torch.randn(row.shape, generator=generator) * gain / math.sqrt(row.numel()))
    if flow.producer.bias is not None:
        flow.producer.bias[unit] = 0
    for tensor, value in _norm_vectors(flow):
        tensor[unit] = value
    for consumer in flow.consumers:
        consumer.layer.weight[:, unit * consumer.width : (unit + 1) * consumer.width] = 0


def entries_of(flow: Flow) -> tuple[UnitEntries, ...]:
    """Where the units of an activation are in the parameters of what feeds it and of what reads it."""
    assert flow.producer is not None  # a flow without an obstacle has one
    norm = [] if flow.norm is None else [flow.norm.weight, flow.norm.bias]
    rows = [flow.producer.weight, flow.producer.bias, *norm]
    own = (UnitEntries(tensor) for tensor in rows if isinstance(tensor, Tensor))
    return (*own, *(UnitEntries(consumer.layer.weight, 1, consumer.width) for consumer in flow.consumers))


def _running(flow: Flow) -> list[Tensor]:
    """The running statistics of the batch norm, if there is one and it keeps them."""
    kept = () if flow.norm is None else (flow.norm.running_mean, flow.norm.running_var)
    return [tensor for tensor in kept if tensor is not None]


def _norm_vectors(flow: Flow) -> list[tuple[Tensor, float]]:
    """The vectors of the batch norm, if there is one, with the values that make it the identity."""
    norm = flow.norm
    if norm is None:
        return []
    vectors = ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0), (norm.running_var, 1.0))
    return [(tensor, value) for tensor, value in vectors if tensor is not None]
