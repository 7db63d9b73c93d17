"""The report for a person at a terminal: head, table of sites, findings, conclusion, next command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from deadrelu.render import conclusion as end
from deadrelu.render import leaky
from deadrelu.render.condition import conditions, sick
from deadrelu.render.glyphs import Glyphs, choose
from deadrelu.render.terminal.page import page, paragraph
from deadrelu.render.terminal.rows import Row, table_lines
from deadrelu.report import Finding, Report, Severity
from deadrelu.text.wording import count

MOST_SITES = 40
"""Above this many sites the healthy ones are only counted."""

MOST_IN_GROUP = 8
"""Above this many findings of one rule the rest are only counted; the table still shows their sites."""

_STYLE: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MOOD: dict[end.Mood, str] = {"good": "bold green", "doubtful": "bold yellow", "bad": "bold red"}


def render(report: Report, *, width: int = 80, color: bool = False, unicode: bool = True, full: bool = False) -> str:
    """The report as text of at most `width` columns, in ANSI colours if `color`, in ASCII unless `unicode`.

    With more than `MOST_SITES` sites those without a dead unit or a warning are counted, not listed, unless `full`.
    The next command alone is never wrapped: it is there to be copied.
    """
    glyphs = choose(unicode=unicode)
    sections = (
        _head(report, glyphs, width),
        _sites(report, glyphs, width, full),
        _skipped(report, glyphs, width),
        _leaky(report, glyphs, width, full),
        _findings(report, glyphs, width, full),
        _end(report, glyphs, width),
    )
    lines: list[Text] = []
    for section in sections:
        drawn = list(section)
        lines += [Text(), *drawn] if lines and drawn else drawn
    return page(lines, width=width, color=color)


def _head(report: Report, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """What was measured, on what."""
    model, data, dot = report.model, report.data, glyphs.dot
    parts = [model.path or "a model in memory", model.format, count(model.parameters, "parameter")]
    yield from paragraph(Text(glyphs.text(dot.join(parts)), "bold"), width=width, first=Text("model  ", "dim"))
    made_of = f"{count(data.samples, 'sample')} in {count(data.batches, 'batch', 'batches')}"
    if data.kind == "synthetic":
        seed = "" if data.seed is None else f" (seed {data.seed})"
        text = Text.assemble((f"SYNTHETIC inputs{seed}, no real data", "bold yellow"), dot, made_of)
    else:
        text = Text(glyphs.text(dot.join([data.source or "data in memory", made_of])))
    yield from paragraph(text, width=width, first=Text("data   ", "dim"))


def _sites(report: Report, glyphs: Glyphs, width: int, full: bool) -> Iterator[Text]:
    """The table, with its totals."""
    rows = [Row(stats, condition) for stats, condition in zip(report.sites, conditions(report), strict=True)]
    if not rows:
        return
    shown = rows if full or len(rows) <= MOST_SITES else worst(rows)
    yield from table_lines(shown, report, glyphs, width)
    if len(shown) < len(rows):
        hidden = [row for row in rows if row not in shown]
        rare = sum(1 for row in hidden if row.stats.rare_units)
        note = f"{glyphs.ellipsis} and {count(len(hidden), 'healthy site')} without a dead unit"
        note += f", {rare:,} with rare ones" if rare else ""
        note += " (--full lists them)"
        yield from paragraph(Text(note, "dim"), width=width, first="   ")


def worst(rows: Sequence[Row]) -> list[Row]:
    """Every sick site, and the worst of the others while there is room, in the order in which they ran."""
    order = sorted(
        range(len(rows)),
        key=lambda n: (not sick(rows[n].stats, rows[n].condition), rows[n].condition, -len(rows[n].stats.rare_units)),
    )
    sick_ones = sum(sick(row.stats, row.condition) for row in rows)
    return [rows[n] for n in sorted(order[: max(sick_ones, MOST_SITES // 2)])]


def _skipped(report: Report, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """What was not measured, and why."""
    if report.skipped:
        yield from paragraph(Text("Skipped: neither alive nor dead", "bold yellow"), width=width)
    for site in report.skipped:
        reason = glyphs.sentence(site.reason)
        name = Text.assemble((glyphs.text(site.id), "bold"), f"  {glyphs.text(site.op)}  {reason}")
        yield from paragraph(name, width=width, first=Text(f" {glyphs.skipped} ", "yellow"))


def _leaky(report: Report, glyphs: Glyphs, width: int, full: bool) -> Iterator[Text]:
    """The activations of which no unit dies: a line for each kind."""
    if report.leaky:
        yield from paragraph(Text(leaky.TITLE, "bold"), width=width)
    for kind in leaky.kinds(report, len(report.leaky) if full else leaky.MOST_NAMED):
        names = glyphs.text(", ".join(kind.named) + kind.rest)
        yield from paragraph(Text(names), width=width, first=Text(f" {glyphs.note} {kind.op}  ", "dim"))


def _findings(report: Report, glyphs: Glyphs, width: int, full: bool) -> Iterator[Text]:
    """The findings, those of one rule with the same advice together. Skipped sites have their own section."""
    groups: dict[tuple[str, Severity, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.rule != "DR008":
            groups.setdefault((finding.rule, finding.severity, finding.suggestion), []).append(finding)
    marks = {"error": glyphs.error, "warning": glyphs.warning, "note": glyphs.note}
    if groups:
        yield Text("Findings", "bold")
    for (rule, severity, suggestion), found in sorted(groups.items(), key=lambda group: _place(*group[0])):
        first = Text(f" {marks[severity]} {rule} ", _STYLE[severity])
        for finding in found if full else found[:MOST_IN_GROUP]:
            yield from paragraph(_message(finding, glyphs), width=width, first=first)
            first = Text(" " * first.cell_len)
        if not full and len(found) > MOST_IN_GROUP:
            yield Text(f"{first.plain}{glyphs.ellipsis} and {count(len(found) - MOST_IN_GROUP, 'more site')}", "dim")
        advice = Text(glyphs.sentence(suggestion), "dim")
        yield from paragraph(advice, width=width, first=Text(" " * first.cell_len + f"{glyphs.arrow} ", "dim"))


def _place(rule: str, severity: Severity, _: str) -> tuple[int, int]:
    """Errors first; among them what casts doubt on all the rest."""
    return list(_STYLE).index(severity), {"DR003": 0, "DR002": 1}.get(rule, 2)


def _message(finding: Finding, glyphs: Glyphs) -> Text:
    """Site, message and, where some but not all units are meant, their numbers."""
    text = Text()
    if finding.site is not None:
        text.append(glyphs.text(finding.site), "bold").append(f" {glyphs.dash} ")
    text.append(glyphs.sentence(finding.message), "bold red" if finding.rule == "DR002" else "")
    if units := end.which_units(finding):
        text.append(f" {glyphs.text(units)}", "dim")
    return text


def _end(report: Report, glyphs: Glyphs, width: int) -> Iterator[Text]:
    """The statistics in a sentence, the verdict with what decided it, and what to type next.

    The verdict stands near the end, where a CI log is looked at first.
    """
    style = _MOOD[end.mood(report)]
    verdict = Text.assemble((f" {end.headline(report)} ", f"{style} reverse"), " ")
    yield from paragraph(Text(glyphs.text(end.conclusion(report))), width=width, first=" ")
    yield Text()
    yield from paragraph(Text(glyphs.text(end.verdict_reason(report)), style), width=width, first=verdict)
    step = end.next_step(report)
    purpose = Text(glyphs.text(f"{step.purpose}{':' if step.command else '.'}"), "dim")
    yield from (Text(), *paragraph(purpose, width=width))
    if step.command:
        yield Text(f"  {glyphs.text(step.command)}", "bold")
