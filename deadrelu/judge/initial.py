"""Which dead units were dead before the training."""

from __future__ import annotations

from dataclasses import replace

from deadrelu.errors import UsageError
from deadrelu.report import Report, SiteStats
from deadrelu.report.site import Sites
from deadrelu.text.wording import count


def with_initial(report: Report, first: Report, path: str) -> Report:
    """Return the report with the dead units of each site that were dead in `first`, the model of `path`, already.

    Sites are matched by id and number of units. Raises `UsageError` if the two did not run on as many samples.
    """
    if first.data.samples != report.data.samples:
        raise UsageError(
            f"the initial model ran on {count(first.data.samples, 'sample')}, and the model on"
            f" {report.data.samples:,}: the data cannot be read twice",
            hint="give a file, a DataLoader or a function that makes one",
        )
    sites = Sites(_born(stats, first.sites) for stats in report.sites)
    return replace(report, sites=sites, settings={**report.settings, "initial": path})


def _born(stats: SiteStats, first: Sites) -> SiteStats:
    """A site with those of its dead units that were dead from the start, if the site was measured then."""
    at_first = next((other for other in first if other.site.id == stats.site.id), None)
    if at_first is None or at_first.site.units != stats.site.units:
        return stats
    return replace(stats, born_dead_units=tuple(sorted({*stats.dead_units} & {*at_first.dead_units})))
