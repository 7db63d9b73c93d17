"""The limits of the gate in words, to be shown beside the verdict."""

from __future__ import annotations

from deadrelu.judge.policy import parse_limit
from deadrelu.report import Report
from deadrelu.text.wording import count, exact_percent


def limit(report: Report) -> str:
    """Return the limits that the report was judged by: on every site, on all units, on some sites, the baseline."""
    settings = report.settings
    each, total, own = (settings.get(name) for name in ("max_dead", "max_dead_total", "limits"))
    parts = [f"{exact_percent(each)} of a site’s units may be dead"] if isinstance(each, int | float) else []
    parts += [f"{exact_percent(total)} of all units may be dead"] if isinstance(total, int | float) else []
    for glob, share in map(parse_limit, own if isinstance(own, tuple) else ()):
        parts.append(f"{exact_percent(share)} at {glob}")
    if baseline := settings.get("baseline"):
        parts.append(f"no more dead units than in {baseline}{_tolerated(settings.get('tolerance'))}")
    return ", ".join(parts) or "none given"


def _tolerated(tolerance: object) -> str:
    """Say what a site may have beyond its baseline."""
    if isinstance(tolerance, int) and tolerance:
        return f", plus {count(tolerance, 'unit')} per site"
    return f", plus {exact_percent(tolerance)} of a site’s units" if isinstance(tolerance, float) else ""
