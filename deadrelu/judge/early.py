"""When a scan may stop: once more data cannot, or most likely will not, change the verdict on dead units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deadrelu.judge.globs import Named
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import silence_bound

Until = Literal["verdict", "likely"]
"""Stop only on a certain pass, or on a likely fail too."""

Stopped = Literal["pass", "fail"]
"""The verdict that stopped a scan."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One site in the middle of a scan: how many of its `units` have been silent on all `samples` so far, and may die.

    Limits do not apply to `guessed` units.
    """

    site: Named | str
    units: int
    silent: int
    samples: int
    guessed: bool = False


def predict_verdict(
    sites: Sequence[Snapshot], policy: Policy, until: Until, *, check: int, skipped: bool = False
) -> Stopped | None:
    """Return the final verdict on dead units if it is already known, else None; `check` counts the checks from 1.

    With `policy.strict`, nothing is known while a site is `skipped` that more data may still reach.

    "pass" is certain: a silent unit may still fire, but a unit that fired cannot fall silent again. "fail" is likely,
    and returned only for `until` "likely": at `policy.confidence`, every silent unit fires on fewer than
    `policy.rare_below` of all samples, by `silence_bound`, if the samples so far are a random choice of them. The
    error is divided among all units, and among the checks as 1 / (check · (check + 1)), which sums to 1.
    """
    if all(site.guessed for site in sites) or (policy.strict and (skipped or any(site.guessed for site in sites))):
        return None
    if not _exceeds(sites, policy):
        return "pass"
    if until == "verdict" or not policy.rare_below:
        return None
    samples = min(site.samples for site in sites if site.silent)
    error = (1 - policy.confidence) / (check * (check + 1) * sum(site.units for site in sites))
    return "fail" if silence_bound(samples, 1 - error) < policy.rare_below else None


def _exceeds(sites: Sequence[Snapshot], policy: Policy) -> bool:
    """Whether the gate would fail if every silent unit were dead."""
    for site in sites:
        limit = None if site.guessed else policy.limit(site.site)
        if site.silent == site.units and policy.counts("DR002", site.site):
            return True
        if limit is not None and site.silent / site.units > limit and policy.counts("DR001", site.site):
            return True
    total, known = policy.max_dead_total, [site for site in sites if not site.guessed]
    silent, units = sum(site.silent for site in known), sum(site.units for site in known)
    return total is not None and silent / units > total and policy.counts("DR001")
