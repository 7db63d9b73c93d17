"""The head of the page: the verdict, the conclusion, model and data, and the findings on the whole scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from deadrelu.judge.policy import parse_limit
from deadrelu.render import conclusion as end
from deadrelu.render import gradients
from deadrelu.render.webpage.charts import composition
from deadrelu.render.webpage.markup import Html, code, el, facts, join, prose
from deadrelu.render.webpage.verdict import page_verdict
from deadrelu.report import Finding, Report, Setting
from deadrelu.text.wording import count, exact_percent

_SHARES = ("max_dead", "max_dead_total", "max_saturated", "rare_below", "confidence")


def verdict(report: Report) -> Html:
    """Return the verdict, its reason and the conclusion, with a banner for synthetic data."""
    mood = end.mood(report)
    path = report.model.path or "a model in memory"
    banner = None
    if report.data.kind == "synthetic":
        banner = el("p", el("strong", "Synthetic inputs."), " No real data was used.", class_="banner")
    return page_verdict(
        "deadrelu",
        path,
        mood,
        end.headline(report),
        el("p", end.sentence(end.verdict_reason(report)), class_="reason"),
        el("p", end.conclusion(report), class_="conclusion"),
        el("p", found, class_="conclusion") if (found := gradients.in_words(report)) else None,
        banner,
        composition(report),
        pill=("Limit", limit(report)),
    )


def limit(report: Report) -> str:
    """Return the limits that the report was judged by: on every site, on all units, on some sites, the baseline."""
    settings = report.settings
    each, total, own = (settings.get(name) for name in ("max_dead", "max_dead_total", "limits"))
    dead = f"dead by {definition}" if (definition := settings.get("definition")) else "dead"
    parts = [f"{exact_percent(each)} of a site’s units may be {dead}"] if isinstance(each, int | float) else []
    parts += [f"{exact_percent(total)} of all units may be {dead}"] if isinstance(total, int | float) else []
    if isinstance(flat := settings.get("max_saturated"), int | float):
        parts.append(f"{exact_percent(flat)} of a site’s units may be saturated")
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


def measured(report: Report) -> Html:
    """Return the model, the data and the next command."""
    model, data, summary = report.model, report.data, report.summary
    source = data.source or ("synthetic" if data.kind == "synthetic" else "in memory")
    made_of = f"{count(data.samples, 'sample')} in {count(data.batches, 'batch', 'batches')}"
    seed = "" if data.seed is None else f", seed {data.seed}"
    skipped = f", {summary.skipped:,} skipped" if summary.skipped else ""
    step = end.next_step(report)
    return el(
        "section",
        el("h2", "What was measured", class_="hidden"),
        facts(
            ("Model", f"{model.format}, {count(model.parameters, 'parameter')}"),
            ("Data", source),
            ("Samples", made_of + seed),
            ("Measured", f"{count(summary.sites, 'site')}, {count(summary.units, 'unit')}{skipped}"),
        ),
        el("p", f"{step.purpose}: ", el("code", step.command), class_="next")
        if step.command
        else el("p", f"{step.purpose}.", class_="next"),
        class_="measured",
    )


def settings(given: Mapping[str, Setting]) -> Html | None:
    """Return every setting that has a value, behind a fold."""
    set_ones = {name: value for name, value in given.items() if value not in (None, (), False)}
    if not set_ones:
        return None
    listed = facts(*((name.replace("_", "-"), _setting(name, value)) for name, value in set_ones.items()))
    return el("details", el("summary", "Settings"), el("div", listed, class_="inside"), class_="plain")


def whole_scan(report: Report) -> Html | None:
    """Return the findings without a site on the page."""
    own = {stats.site.id for stats in report.sites} | {skipped.id for skipped in report.skipped}
    found = [finding for finding in report.findings if finding.site not in own]
    if not found:
        return None
    return el("section", el("h2", "The whole scan", id="whole-scan"), findings(found, with_site=True))


def findings(found: Iterable[Finding], *, with_site: bool = False) -> Html:
    """Return findings with their units and advice; each code links to its rule."""
    items = []
    for finding in found:
        at = code(finding.site) if with_site and finding.site is not None else None
        items.append(
            el(
                "li",
                el("a", finding.rule, class_=f"badge {finding.severity}", href=f"#{finding.rule}"),
                el(
                    "div",
                    el("p", el("span", f"{finding.severity}: ", class_="hidden"), at, at and " ", _message(finding)),
                    el("p", prose(finding.suggestion), class_="quiet"),
                ),
            )
        )
    return el("ul", *items, class_="findings")


def _message(finding: Finding) -> Html:
    """The message of a finding, with its units."""
    units = end.which_units(finding)
    return join(prose(finding.message), f" {units}" if units else None)


def _setting(name: str, value: Setting) -> str:
    """The value of a setting as a person would type it."""
    if name in _SHARES and isinstance(value, float):
        return exact_percent(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value)
