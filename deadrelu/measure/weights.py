"""How large the weights into and out of each unit are, where the layers before and after it are known for certain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from deadrelu.programs.eager.dataflow import Consumer, Flow, Followed, Layer, follow
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch, Program
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites

_Sizes = tuple[float, ...]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


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

    Biases are not weights. The layer before a site is the one in `site.after`, or the one before that if it is a batch
    norm. What reads the units is followed through one forward pass of `batch`, and given only if nothing but linear and
    convolution layers does. Neither is known of a graph, or without a batch.
    """
    if batch is None or not isinstance(program, EagerProgram):
        return report
    followed, modules = follow(program, batch, report.sites), dict(program.module.named_modules())
    return replace(report, sites=Sites(_with_sizes(stats, followed, modules) for stats in report.sites))


def _with_sizes(stats: SiteStats, followed: Followed, modules: Mapping[str, nn.Module]) -> SiteStats:
    """The figures of one site with its weights."""
    after = modules.get(stats.site.after) if stats.site.after is not None else None
    layer = None if after is None else followed.before.get(after, after)
    flow = followed.flows.get(stats.site.module) if stats.site.swappable else None
    is_last = stats.site.feature_axis in (1, len(stats.site.shape) - 1)
    return replace(
        stats,
        weight_in=_into(layer, stats.site.units),
        weight_out=_out_of(flow, stats.site.units) if flow is not None and is_last else (),
    )


def _into(layer: nn.Module | None, units: int) -> _Sizes:
    """The mean |w| of the weights that make each unit; nothing where that is not known."""
    if isinstance(layer, Layer):
        weight = layer.weight
    elif isinstance(layer, _TRANSPOSED) and layer.groups == 1:
        weight = layer.weight.transpose(0, 1)
    else:
        return ()
    return _means([weight]) if len(weight) == units else ()


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
