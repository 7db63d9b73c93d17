"""When a scan may stop: as soon as more data cannot change the verdict on dead units, or hardly can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deadrelu.judge.globs import Named
from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import silence_bound

Until = Literal["verdict", "likely"]
"""Stop on a certain pass only, or on a likely fail too."""

Stopped = Literal["pass", "fail"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A site in the middle of a scan: how many of its `units` have been silent on all `samples` so far.

    Limits do not apply to units that are `guessed`.
    """

    site: Named | str
    units: int
    silent: int
    samples: int
    guessed: bool = False


def predict_verdict(
    sites: Sequence[Snapshot], policy: Policy, until: Until, *, look: int, skipped: bool = False
) -> Stopped | None:
    """What the verdict on dead units will be, if that can be said already; `look` counts the looks from 1.

    Nothing can be said while a site is `skipped` which more data may yet reach, if `policy.strict`.

    "pass" is certain: a silent unit may still fire, but none that fired can fall silent again. "fail" is likely, and
    given only for `until` "likely": with `policy.confidence`, every silent unit fires on fewer than
    `policy.rare_below` of all samples, by `silence_bound`, if the samples so far are a random choice of them. The
    error is shared out among all units, and among the looks as 1 / (look · (look + 1)), which sum to 1.
    """
    if all(site.guessed for site in sites) or (policy.strict and (skipped or any(site.guessed for site in sites))):
        return None
    if not _exceeds(sites, policy):
        return "pass"
    if until == "verdict" or not policy.rare_below:
        return None
    samples = min(site.samples for site in sites if site.silent)
    error = (1 - policy.confidence) / (look * (look + 1) * sum(site.units for site in sites))
    return "fail" if silence_bound(samples, 1 - error) < policy.rare_below else None


def _exceeds(sites: Sequence[Snapshot], policy: Policy) -> bool:
    """Whether so many units are silent that the gate would fail if all of them were dead."""
    for site in sites:
        limit = None if site.guessed else policy.limit(site.site)
        if site.silent == site.units and policy.counts("DR002", site.site):
            return True
        if limit is not None and site.silent / site.units > limit and policy.counts("DR001", site.site):
            return True
    total, known = policy.max_dead_total, [site for site in sites if not site.guessed]
    silent, units = sum(site.silent for site in known), sum(site.units for site in known)
    return total is not None and silent / units > total and policy.counts("DR001")
