"""The end of the page: skipped sites, the rules, the glossary, and the footer."""

from __future__ import annotations

from deadrelu.judge.rules import RULES
from deadrelu.render.webpage.markup import Html, code, el, facts, join, prose
from deadrelu.render.webpage.overview import findings
from deadrelu.report import Report
from deadrelu.report.trial import Trial

_WORDS = (
    ("Site", "One activation call in the forward pass."),
    ("Unit", "One channel after a convolution, one feature after a linear layer."),
    ("Position", "One pre-activation of a unit: samples times the remaining axes."),
    ("Fires", "The pre-activation is where the activation’s gradient is not zero."),
    ("Firing rate", "The share of its positions at which a unit fires."),
    ("Dead", "Fired at no position of any sample in all of the data."),
    ("Saturated", "Not dead, but its activation is almost flat at every position: hardly any gradient passes."),
    ("Rare", "Fired, but at fewer positions than the setting rare-below says."),
    ("Always on", "Fired at every position."),
    ("Headroom", "The largest pre-activation of a dead unit: how near it came to firing."),
)


def skipped(report: Report) -> Html | None:
    """Return the table of sites that were not measured, with their reasons."""
    if not report.skipped:
        return None
    rows = [
        el(
            "tr",
            el("th", code(site.id), scope="row"),
            el("td", code(site.op)),
            el("td", prose(site.reason)),
        )
        for site in report.skipped
    ]
    heads = el("tr", *(el("th", text, scope="col") for text in ("site", "activation", "reason")))
    table = el(
        "table", el("caption", "Neither alive nor dead."), el("thead", heads), el("tbody", *rows), class_="skipped"
    )
    ids = {site.id for site in report.skipped}
    # The table has the reasons; any other finding at a skipped site must not get lost.
    others = [f for f in report.findings if f.site in ids and f.rule != "DR008"]
    return el("section", el("h2", "Skipped"), table, findings(others, with_site=True) if others else None)


def explained() -> Html:
    """Return every rule, and the glossary."""
    rules = [
        el(
            "div",
            el("h3", el("span", rule.code, class_=f"badge {rule.severity}"), f" {rule.name}"),
            el("p", el("strong", rule.summary), f" {rule.why}"),
            el("p", prose(rule.fix), class_="quiet"),
            id=rule.code,
            class_="rule",
        )
        for rule in RULES.values()
    ]
    return join(
        el("details", el("summary", "The rules"), el("div", *rules, class_="inside"), class_="plain"),
        el("details", el("summary", "The words"), el("div", facts(*_WORDS), class_="inside"), class_="plain"),
    )


def footer(report: Report | Trial) -> Html:
    """Return the versions that made the page, and the hash of the model."""
    made = f"{report.tool.name} {report.tool.version}, torch {report.tool.torch}"
    digest = report.model.sha256
    return el(
        "footer",
        el("p", made),
        el("p", "SHA-256 of the model: ", el("code", digest)) if digest else None,
    )
