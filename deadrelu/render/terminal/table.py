"""The report for a person at a terminal: head, table of sites, findings, conclusion, next command."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render import conclusion as end
from deadrelu.render import gradients
from deadrelu.render.causes import MOST_SITES, causes_in_words
from deadrelu.render.rows import MOST_ROWS, site_rows, worst_rows
from deadrelu.render.terminal import styles
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.plasticity import plasticity_lines
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.terminal.sites import table_lines
from deadrelu.report import Finding, Report, Severity
from deadrelu.text.wording import count

MOST_IN_GROUP = 8
"""More findings of one rule than this are only counted; the table still shows their sites."""


def render(report: Report, screen: Screen = Screen(), *, full: bool = False) -> str:
    """Return the report as text.

    With more than `MOST_ROWS` sites, those without a dead unit or a warning are only counted, unless `full`. The next
    command is never wrapped: it is there to be copied.
    """
    sections = (
        _head(report, screen),
        _sites(report, screen, full),
        plasticity_lines(report, screen),
        _skipped(report, screen),
        _findings(report, screen, full),
        _causes(report, screen, full),
        _end(report, screen),
    )
    return page(sections, screen)


def _head(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the model and the data."""
    model, data, dot = report.model, report.data, screen.glyphs.dot
    parts = [model.path or "a model in memory", model.format, count(model.parameters, "parameter")]
    yield from paragraph(Text(screen.text(dot.join(parts)), "bold"), screen, first=Text("model  ", "dim"))
    made_of = f"{count(data.samples, 'sample')} in {count(data.batches, 'batch', 'batches')}"
    if data.kind == "synthetic":
        seed = "" if data.seed is None else f" (seed {data.seed})"
        text = Text.assemble((f"SYNTHETIC inputs{seed}, no real data", "bold yellow"), dot, made_of)
    else:
        text = Text(screen.text(dot.join([data.source or "data in memory", made_of])))
    yield from paragraph(text, screen, first=Text("data   ", "dim"))


def _sites(report: Report, screen: Screen, full: bool) -> Iterator[Text]:
    """Yield the table with its totals."""
    rows = site_rows(report)
    if not rows:
        return
    shown = rows if full or len(rows) <= MOST_ROWS else worst_rows(rows)
    yield from table_lines(shown, report, screen)
    if len(shown) < len(rows):
        hidden = [row for row in rows if row not in shown]
        rare = sum(1 for row in hidden if row.stats.rare_units)
        note = f"{screen.glyphs.ellipsis} and {count(len(hidden), 'healthy site')} without a dead unit"
        note += f", {rare:,} with rare ones" if rare else ""
        note += " (--full lists them)"
        yield from paragraph(Text(note, "dim"), screen, first="   ")


def _skipped(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the sites that were not measured, and why."""
    if report.skipped:
        yield from paragraph(Text("Skipped: neither alive nor dead", "bold yellow"), screen)
    for site in report.skipped:
        reason = screen.sentence(site.reason)
        name = Text.assemble((screen.text(site.id), "bold"), f"  {screen.text(site.op)}  {reason}")
        yield from paragraph(name, screen, first=Text(f" {screen.glyphs.skipped} ", "yellow"))


def _findings(report: Report, screen: Screen, full: bool) -> Iterator[Text]:
    """Yield the findings, grouped by rule and advice. Skipped sites have their own section."""
    groups: dict[tuple[str, Severity, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.rule != "DR008":
            groups.setdefault((finding.rule, finding.severity, finding.suggestion), []).append(finding)
    marks = {"error": screen.glyphs.error, "warning": screen.glyphs.warning, "note": screen.glyphs.note}
    if groups:
        yield Text("Findings", "bold")
    for (rule, severity, suggestion), found in sorted(groups.items(), key=lambda group: _place(*group[0])):
        first = Text(f" {marks[severity]} {rule} ", styles.SEVERITY[severity])
        for finding in found if full else found[:MOST_IN_GROUP]:
            yield from paragraph(_message(finding, screen), screen, first=first)
            first = Text(" " * first.cell_len)
        if not full and len(found) > MOST_IN_GROUP:
            yield Text(
                f"{first.plain}{screen.glyphs.ellipsis} and {count(len(found) - MOST_IN_GROUP, 'more site')}", "dim"
            )
        advice = Text(screen.sentence(suggestion), "dim")
        yield from paragraph(advice, screen, first=Text(" " * first.cell_len + f"{screen.glyphs.arrow} ", "dim"))


def _causes(report: Report, screen: Screen, full: bool) -> Iterator[Text]:
    """Yield the main cause of each sick site."""
    found = list(causes_in_words(report))
    if found:
        yield Text("Why", "bold")
    for id, said in found if full else found[:MOST_SITES]:
        text = Text.assemble((screen.text(id), "bold"), f" {screen.glyphs.dash} {screen.sentence(said)}")
        yield from paragraph(text, screen, first=Text(f" {screen.glyphs.note} ", "dim"))
    if not full and len(found) > MOST_SITES:
        yield Text(f"   {screen.glyphs.ellipsis} and {count(len(found) - MOST_SITES, 'more site')}", "dim")


def _place(rule: str, severity: Severity, _: str) -> tuple[bool, int, int]:
    """The order of groups: wrong inputs, then errors, and of those first the ones that cast doubt on all others."""
    return rule != "DR014", list(styles.SEVERITY).index(severity), {"DR003": 0, "DR002": 1}.get(rule, 2)


def _message(finding: Finding, screen: Screen) -> Text:
    """The site, the message and, if it means some units only, their numbers."""
    text = Text()
    if finding.site is not None:
        text.append(screen.text(finding.site), "bold").append(f" {screen.glyphs.dash} ")
    text.append(screen.sentence(finding.message), "bold red" if finding.rule == "DR002" else "")
    if units := end.which_units(finding):
        text.append(f" {screen.text(units)}", "dim")
    return text


def _end(report: Report, screen: Screen) -> Iterator[Text]:
    """Yield the conclusion, the verdict with its reason, and the next command.

    The verdict comes near the end, where people look first in a CI log.
    """
    style = styles.MOOD[end.mood(report)]
    verdict = Text.assemble((f" {end.headline(report)} ", f"{style} reverse"), " ")
    yield from paragraph(Text(screen.text(end.conclusion(report))), screen, first=" ")
    if found := gradients.in_words(report):
        yield from (Text(), *paragraph(Text(screen.text(found)), screen, first=" "))
    yield Text()
    yield from paragraph(Text(screen.text(end.verdict_reason(report)), style), screen, first=verdict)
    step = end.next_step(report)
    purpose = Text(screen.text(f"{step.purpose}{':' if step.command else '.'}"), "dim")
    yield from (Text(), *paragraph(purpose, screen))
    if step.command:
        yield Text(f"  {screen.text(step.command)}", "bold")
