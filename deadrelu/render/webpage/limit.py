"""The limit of the gate in words, to stand beside the verdict."""

from __future__ import annotations

from deadrelu.judge.policy import parse_limit
from deadrelu.report import Report
from deadrelu.text.wording import count, exact_percent


def limit(report: Report) -> str:
    """What the report was judged by: shares of dead units, other ones for some sites, a baseline."""
    settings = report.settings
    each, total, own = (settings.get(name) for name in ("max_dead", "max_dead_total", "limits"))
    parts = [f"{exact_percent(each)} of a site’s units may be dead"] if isinstance(each, int | float) else []
    parts += [f"{exact_percent(total)} of all units may be dead"] if isinstance(total, int | float) else []
    for glob, share in map(parse_limit, own if isinstance(own, tuple) else ()):
        parts.append(f"{exact_percent(share)} at {glob}")
    if baseline := settings.get("baseline"):
        parts.append(f"no more than in {baseline}{_tolerated(settings.get('tolerance'))}")
    return ", ".join(parts) or "none was given"


def _tolerated(tolerance: object) -> str:
    """What a site may have beyond its baseline."""
    if isinstance(tolerance, int) and tolerance:
        return f" and {count(tolerance, 'unit')} a site beyond it"
    return f" and {exact_percent(tolerance)} of a site’s units beyond it" if isinstance(tolerance, float) else ""
