"""Why a report has its verdict: what its dead units were compared to, and what failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deadrelu.judge.policy import Policy
from deadrelu.report import Report

Yardstick = Literal["baseline", "limits", "none", "not judged"]
"""What dead units were compared to; "not judged" if DR001 is excluded."""


@dataclass(frozen=True, kw_only=True)
class FailedRule:
    """A rule that failed the gate, and at how many sites; 0 if it is about the whole scan.

    `limit` is the largest share of dead units that these sites may have; None if their limits differ.
    """

    rule: str
    sites: int
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What decided the verdict: the rules that `failed`, worst first, or the `yardstick` that nothing exceeded.

    `limit` is the common limit of all sites that have one, `unlimited` the number of sites without one, `total` the
    limit over all units together, `max_saturated` that on the saturated units of each site. `standing` compares the
    dead units of a passed gate to the baseline. `definition` is that of a dead unit, if it is not the usual one.
    """

    failed: tuple[FailedRule, ...]
    yardstick: Yardstick
    baseline: str | None = None
    standing: Literal["same", "better", "tolerated"] = "same"
    limit: float | None = None
    unlimited: int = 0
    total: float | None = None
    max_saturated: float | None = None
    definition: str | None = None
    dead_sites_fail: bool = True


def explain_verdict(report: Report) -> Decision:
    """Return what decided the verdict of a judged report."""
    policy = Policy.from_settings(report.settings)
    baseline, standing = report.settings.get("baseline"), report.settings.get("standing")
    limits = [policy.limit(stats.site) for stats in report.gated]
    given = {limit for limit in limits if limit is not None}
    yardstick: Yardstick = "limits" if given or policy.max_dead_total is not None else "none"
    if isinstance(baseline, str):
        yardstick = "baseline"
    elif not policy.counts("DR001"):
        yardstick = "not judged"
    return Decision(
        failed=tuple(_failed(report, policy, by_baseline=yardstick == "baseline")),
        yardstick=yardstick,
        baseline=baseline if isinstance(baseline, str) else None,
        standing="better" if standing == "better" else "tolerated" if standing == "tolerated" else "same",
        limit=given.pop() if len(given) == 1 else None,
        unlimited=limits.count(None),
        total=policy.max_dead_total,
        max_saturated=policy.max_saturated if policy.counts("DR007") else None,
        definition=policy.definition,
        dead_sites_fail=policy.counts("DR002"),
    )


def _failed(report: Report, policy: Policy, *, by_baseline: bool) -> Iterator[FailedRule]:
    """Yield each rule with an error. A baseline covers wholly dead sites too: under one they count as DR001."""
    sites = {stats.site.id: stats.site for stats in report.sites}
    found: dict[tuple[str, bool], dict[str, None]] = {}
    for finding in report.findings:
        if finding.severity == "error":
            rule = "DR001" if by_baseline and finding.rule == "DR002" else finding.rule
            named = found.setdefault((rule, finding.site is None), {})
            named |= {} if finding.site is None else {finding.site: None}
    for (rule, _), named in found.items():
        limits = {policy.limit(sites[name]) for name in named if name in sites}
        yield FailedRule(rule=rule, sites=len(named), limit=limits.pop() if len(limits) == 1 else None)
