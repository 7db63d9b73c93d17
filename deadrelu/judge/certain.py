"""Which dead units of a report are dead for certain, and which can be woken."""

from __future__ import annotations

from dataclasses import replace

from deadrelu.report import Report
from deadrelu.report.proof import Proof
from deadrelu.report.site import Sites


def with_proof(report: Report, proof: Proof | None) -> Report:
    """Return the report with what a proof over the same data says of the dead units of each site that it decided.

    Without a proof it is as it was.
    """
    if proof is None:
        return report
    decided = {site.id: site for site in proof.sites if site.obstacle is None}
    sites = Sites(
        replace(
            stats,
            proved_units=tuple(sorted({*decided[stats.site.id].proved_units} & {*stats.dead_units})),
            woken_units=tuple(sorted({*decided[stats.site.id].woken_units} & {*stats.dead_units})),
        )
        if stats.site.id in decided
        else stats
        for stats in report.sites
    )
    return replace(report, sites=sites, settings={**report.settings, "prove": True})
