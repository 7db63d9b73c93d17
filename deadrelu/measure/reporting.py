"""From a measurement to a report that is not judged yet."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from deadrelu.judge.causes import find_causes
from deadrelu.judge.gradients import summarise, with_gradients
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import compute_stats
from deadrelu.measure.early_stopping import Stop
from deadrelu.measure.losses import Loss
from deadrelu.measure.measurement import Measurement, SiteCounts
from deadrelu.measure.padding.found import notes
from deadrelu.measure.plan import Plan
from deadrelu.measure.ranks import MOST_UNITS, ranks_of
from deadrelu.measure.scan import Progress, measure
from deadrelu.measure.weights import FirstBatch, with_weights
from deadrelu.programs.program import Batch, Program
from deadrelu.report import DataInfo, ModelInfo, Report, Setting, SiteStats, Tool
from deadrelu.report.site import Sites
from deadrelu.text.wording import count, first_few
from deadrelu.version import __version__

if TYPE_CHECKING:
    from deadrelu.measure.distributed import Ranks

_log = logging.getLogger("deadrelu")
_DEFAULT = Policy()


class DescribedBatches(Protocol):
    """Batches, and where they come from."""

    @property
    def info(self) -> DataInfo:
        """Their description, in which samples and batches are not counted yet."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches, from the first."""


def report_on(
    program: Program,
    model: ModelInfo,
    data: DescribedBatches,
    plan: Plan | None = None,
    *,
    settings: Mapping[str, Setting] | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    stop: Stop | None = None,
    loss: Loss | None = None,
) -> Report:
    """Measure `program` over `data`, and return the report; `judge` completes it with findings and a verdict.

    `stop` ends the scan as soon as it returns a verdict. `ranks` are the processes that share the work, each with the
    batches of its shard. Raises what `measure` raises.
    """
    plan = plan or Plan()
    batches = FirstBatch(data)
    fed = batches if plan.plasticity else data
    measurement = measure(program, fed, plan, progress=progress, ranks=ranks, stop=stop, loss=loss)
    for note in notes(measurement.padding, is_synthetic=data.info.kind == "synthetic"):
        _log.info(note)
    for note in _unranked(measurement, plan):
        _log.info(note)
    report = to_report(measurement, plan, model=model, data=data.info, settings=settings or {})
    return with_weights(report, program, batches.batch) if plan.plasticity else report


def to_report(
    measurement: Measurement, plan: Plan, *, model: ModelInfo, data: DataInfo, settings: Mapping[str, Setting]
) -> Report:
    """The measurement as a report. `data` gets its figures, and `settings` what the scan decided itself."""
    sites = Sites(site_stats(measurement, plan))
    left_out = tuple(str(out) for out in measurement.padding.left_out if out.padded)
    counter: Literal["native", "torch"] = "native" if measurement.is_native else "torch"
    return Report(
        tool=Tool(name="deadrelu", version=__version__, torch=torch.__version__, counter=counter),
        model=model,
        data=replace(data, samples=measurement.samples, batches=measurement.batches),
        settings={**settings, "stopped": measurement.stopped, **({"padding": left_out} if left_out else {})},
        sites=sites,
        skipped=tuple(skipped for skipped in measurement.unmeasured if plan.wants(skipped)),
        gradients=summarise(measurement.loss, sites) if measurement.loss else None,
        inputs=measurement.inputs,
    )


def site_stats(measurement: Measurement, plan: Plan) -> list[SiteStats]:
    """The statistics of each site that the plan wants, in the terms of the default policy: `judge` applies another."""
    wanted = [site for site in measurement.measured if plan.wants(site.site)]
    every = [_stats_of(site, plan) for site in wanted]
    if plan.stats != "full":
        return every
    silent = [
        site.silence.units(stats.min_preactivation) if site.silence else ()
        for site, stats in zip(wanted, every, strict=True)
    ]
    causes = find_causes(every, silent)
    return [replace(stats, causes=found) for stats, found in zip(every, causes, strict=True)]


def _stats_of(site: SiteCounts, plan: Plan) -> SiteStats:
    """The statistics of one site."""
    rare_below, confidence = _DEFAULT.rare_below, _DEFAULT.confidence
    stats = compute_stats(site.site, site.counts, rare_below=rare_below, confidence=confidence, stats=plan.stats)
    stats = with_gradients(stats, site.gradients)
    return stats if site.gram is None else replace(stats, ranks=ranks_of(site.gram))


def _unranked(measurement: Measurement, plan: Plan) -> Iterator[str]:
    """Yield a note on the sites whose ranks were asked for and cost too much."""
    large = [s.site for s in measurement.measured if plan.wants(s.site) and s.site.units > MOST_UNITS]
    if plan.plasticity and large:
        names = first_few([site.id for site in large])
        yield f"no ranks for {names}: they are computed of at most {count(MOST_UNITS, 'unit')}"
