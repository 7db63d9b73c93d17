"""The report as one self-contained HTML page: no requests, readable without its script, light and dark, printable."""

from __future__ import annotations

import base64
import hashlib

from deadrelu.render.conclusion import headline
from deadrelu.render.rows import site_rows
from deadrelu.render.webpage import closing, overview
from deadrelu.render.webpage.details import detailed, details
from deadrelu.render.webpage.markup import Html, asset, el
from deadrelu.render.webpage.plasticity import plasticity_section
from deadrelu.render.webpage.sites import table
from deadrelu.report import Report


def render(report: Report) -> str:
    """Return the page with a final newline.

    Its content security policy allows no request, and no script but its own, by hash: if a name from a model ever got
    through the escaping, it could still run nothing.
    """
    style, script = asset("style.css"), asset("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    rows = site_rows(report)
    chosen = detailed(rows)
    head = (
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{headline(report)}: {report.model.path or 'model in memory'} (deadrelu)"),
        el("link", rel="icon", href="data:,"),
        el("style", Html(style)),
    )
    body = (
        overview.verdict(report),
        overview.measured(report),
        overview.whole_scan(report),
        table(report, rows, chosen),
        plasticity_section(report, rows, chosen),
        closing.skipped(report),
        details(report, rows, chosen),
        el("section", el("h2", "Reference"), overview.settings(report), closing.explained()),
    )
    whole = el("body", el("main", *body), closing.footer(report), el("script", Html(script)))
    page = el("html", el("head", *head), whole, lang="en")
    return f"<!doctype html>\n{_broken(page)}\n"


def _broken(page: str) -> str:
    """Put line breaks before the larger elements, so that a diff of two pages shows what changed."""
    for tag in ("<section", "<tr", "<details", "<dl", "<footer", "<header", "<style", "<script", "<li", "<body"):
        page = page.replace(tag, f"\n{tag}")
    return page
