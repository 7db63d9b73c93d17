"""The report for scripts, as `deadrelu/report.schema.json` describes it."""

from __future__ import annotations

from deadrelu.report import Report


def render(report: Report) -> str:
    """Return the report as JSON text with a final newline."""
    return report.to_json()
