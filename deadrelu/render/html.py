"""The report as one self-contained HTML page: no requests, readable without its script, light and dark, printable."""

from __future__ import annotations

from deadrelu.render.conclusion import headline
from deadrelu.render.rows import site_rows
from deadrelu.render.webpage import closing, overview
from deadrelu.render.webpage.details import detailed, details
from deadrelu.render.webpage.document import document
from deadrelu.render.webpage.markup import el
from deadrelu.render.webpage.plasticity import plasticity_section
from deadrelu.render.webpage.sites import table
from deadrelu.report import Report


def render(report: Report) -> str:
    """Return the page with a final newline."""
    rows = site_rows(report)
    chosen = detailed(rows)
    body = (
        overview.verdict(report),
        overview.measured(report),
        overview.whole_scan(report),
        table(report, rows, chosen),
        plasticity_section(report, rows, chosen),
        closing.skipped(report),
        details(report, rows, chosen),
        el("section", el("h2", "Reference"), overview.settings(report.settings), closing.explained()),
    )
    title = f"{headline(report)}: {report.model.path or 'model in memory'} (deadrelu)"
    return document(title, body, closing.footer(report), styles=("style.css",), script="sort.js")
