"""How large the weights into and out of each unit are, where the layers before and after it are known for certain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deadrelu.programs.eager.dataflow import Consumer, Flow, trace_flows
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Program
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites

_Sizes = tuple[float, ...]


class FirstBatch:
    """Batches, of which the first is kept: what they come from may not give them twice."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batch: Batch | None = None
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        """The batches, from the first."""
        for batch in self._batches:
            self.batch = self.batch or batch
            yield batch


@torch.no_grad()
def with_weights(report: Report, program: Program, batch: Batch | None) -> Report:
    """Return the report with the mean |w| into and out of each unit of its sites.

    Biases are not weights. What feeds and reads the units is followed through one forward pass of `batch`: weights into
    them are given if a linear or convolution layer, or a batch norm after it, makes the pre-activation, and weights out
    if nothing but such layers reads it. Neither is known of a functional call, of a graph, or without a batch.
    """
    if batch is None or not isinstance(program, EagerProgram):
        return report
    flows = trace_flows(program, batch, report.sites)
    return replace(report, sites=Sites(_with_sizes(stats, flows) for stats in report.sites))


def _with_sizes(stats: SiteStats, flows: Mapping[str, Flow]) -> SiteStats:
    """The figures of one site with its weights; a module that is called several times has no one layer before it."""
    site = stats.site
    flow = flows.get(site.module) if site.swappable and site.calls == 1 else None
    if flow is None or site.feature_axis not in (1, len(site.shape) - 1):
        return stats
    return replace(stats, weight_in=_into(flow, site.units), weight_out=_out_of(flow, site.units))


def _into(flow: Flow, units: int) -> _Sizes:
    """The mean |w| of the weights that make each unit; nothing where that is not known."""
    weight = None if flow.producer is None else flow.producer.weight
    return _means([weight]) if weight is not None and len(weight) == units else ()


def _out_of(flow: Flow, units: int) -> _Sizes:
    """The mean |w| of the weights by which each unit is read, over all layers that do; nothing where one is unknown."""
    if flow.is_read_elsewhere or not flow.consumers:
        return ()
    if any(consumer.layer.weight.shape[1] != units * consumer.width for consumer in flow.consumers):
        return ()
    return _means([_by_unit(consumer, units) for consumer in flow.consumers])


def _by_unit(consumer: Consumer, units: int) -> Tensor:
    """The weights that read each unit, as `(units, …)`."""
    weights: Tensor = consumer.layer.weight.transpose(0, 1).unflatten(0, (units, consumer.width))
    return weights


def _means(weights: Sequence[Tensor]) -> _Sizes:
    """The mean size of what each unit has in all of `weights`, which are `(units, …)`."""
    entries = torch.cat([weight.flatten(1) for weight in weights], 1)
    return tuple(entries.abs().mean(1, dtype=torch.float64).tolist()) if entries.isfinite().all() else ()
