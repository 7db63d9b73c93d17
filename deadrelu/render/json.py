"""The report for scripts: the contract of `deadrelu/report.schema.json`."""

from __future__ import annotations

from deadrelu.report import Report


def render(report: Report) -> str:
    """The report as JSON text with a final newline."""
    return report.to_json()
