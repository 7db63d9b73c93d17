"""Makes a program smaller in memory: scan, remove what is dead, merge what is always on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deadrelu.certify.box import sampled
from deadrelu.certify.prove import prove
from deadrelu.data.batches import Batches
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.remedy.prune.cutting import Cutting
from deadrelu.remedy.prune.graphs import Prunable
from deadrelu.remedy.prune.linear import Merged, merge_units
from deadrelu.remedy.prune.removal import Removal
from deadrelu.remedy.prune.surgery import layer_sizes
from deadrelu.report import ModelInfo, Report
from deadrelu.report.proof import Box
from deadrelu.report.pruned import SitePruned
from deadrelu.text.wording import count


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Which dead units go: all, or those `proved` over the box alone; `rounding` lets outputs round differently.

    `linearise` merges units that are proved always on over the box.
    """

    box: Box
    proved: bool = False
    rounding: bool = False
    linearise: bool = False


@dataclass(frozen=True)
class Done:
    """What was removed in memory, and the model as it was; how far the outputs moved, and in float64, relatively."""

    before: Report
    original: Prunable
    sites: tuple[SitePruned, ...]
    layers: Mapping[str, tuple[str, str]]
    exactly: float
    moved: float
    notes: tuple[str, ...] = ()


def remove(
    program: Prunable,
    info: ModelInfo,
    batches: Batches,
    options: PruneOptions,
    plan: Plan,
    progress: Progress | None,
) -> Done:
    """Scan, and remove in place. Raises what scanning raises."""
    report = report_on(program, info, batches, plan, progress=progress)
    inputs = sampled(batches, options.box)
    allowed = None
    if options.proved:
        allowed = {site.id: site.proved_units for site in prove(program, report.sites, inputs, batches).sites}
    sizes = layer_sizes(program.module)
    cutting = Cutting(program, list(batches), rounding=math.inf if options.rounding else 0.0)
    sites = Removal(cutting).run(report.sites, inputs, allowed)
    steps = [cutting]
    notes: tuple[str, ...] = ()
    if options.linearise:
        left = report_on(program, info, batches, plan) if any(site.removed_units for site in sites) else report
        found, more = merge_units(program, cutting.batches, left.sites, inputs)
        sites, notes = _with_merged(report, sites, found)
        steps += more
    now = layer_sizes(program.module)
    layers = {path: (size, now[path]) for path, size in sizes.items() if now[path] != size}
    moved, exactly = (sum(getattr(step, name) for step in steps) for name in ("moved", "exactly"))
    return Done(report, cutting.original, sites, layers, exactly, moved, notes)


def _with_merged(
    report: Report, sites: Sequence[SitePruned], found: Mapping[str, Merged]
) -> tuple[tuple[SitePruned, ...], tuple[str, ...]]:
    """The sites with their merged units, by their numbers in the model as it was; and why others were not merged."""
    by_id = {site.id: site for site in sites}
    for stats in report.sites:
        merged = found.get(stats.site.id)
        if merged is not None and not merged.reason:
            own = by_id.get(stats.site.id, SitePruned(id=stats.site.id, units=stats.site.units, dead=stats.dead))
            left = [unit for unit in range(own.units) if unit not in set(own.removed_units)]
            units = tuple(left[unit] for unit in merged.units)
            by_id[own.id] = replace(own, merged_units=units, merged_into=merged.left)
    notes = [
        f"`{id}` has {count(len(merged.units), 'unit')} always on, and they stay: {merged.reason}"
        for id, merged in found.items()
        if merged.reason
    ]
    if not found:
        notes.append("no site has two units that are proved always on: there is nothing to merge")
    in_order = (stats.site.id for stats in report.sites)
    return tuple(by_id[id] for id in in_order if id in by_id), tuple(notes)
