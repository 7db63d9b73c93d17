"""The register of the functions that look for one rule each.

Each yields findings in the order of the sites, with the severity that the policy gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deadrelu.judge.policy import Policy
from deadrelu.judge.rules import RULES
from deadrelu.report import Finding, Report, Severity, SiteStats

Finder = Callable[[Report, Policy], Iterator[Finding]]

FINDERS: list[Finder] = []
"""Every function that looks for one rule; `judgement.py` imports the modules that hold them."""


def finder(find: Finder) -> Finder:
    """Register a function that looks for one rule."""
    FINDERS.append(find)
    return find


def make_finding(
    code: str,
    stats: SiteStats | None,
    message: str,
    units: tuple[int, ...] = (),
    severity: Severity | None = None,
    suggestion: str = "",
) -> Finding:
    """Make a finding of the rule `code`, with the rule's severity and fix unless they are given."""
    rule = RULES[code]
    return Finding(
        rule=code,
        severity=severity or rule.severity,
        site=None if stats is None else stats.site.id,
        units=units,
        message=message,
        suggestion=suggestion or rule.fix,
    )
