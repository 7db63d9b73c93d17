"""The report for a pull request or a job summary, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from deadrelu.render import conclusion as end
from deadrelu.render import gradients
from deadrelu.render.causes import causes_in_words
from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.plasticity import plasticity_columns, plasticity_figures, plasticity_sentences, ranked_or_weighed
from deadrelu.render.rows import Condition, Row, dead_title, figures, saturated, site_rows
from deadrelu.report import Finding, Report, Severity
from deadrelu.text.wording import count

_MARKS = {
    Condition.DEAD: "❌",
    Condition.ERROR: "❌",
    Condition.WARNING: "⚠️",
    Condition.NOTE: "",
    Condition.HEALTHY: "",
}
_OF_SEVERITY: dict[Severity, str] = {"error": "❌", "warning": "⚠️", "note": "💬"}
_MOOD: dict[end.Mood, str] = {"good": "✅", "doubtful": "⚠️", "bad": "❌"}

MOST_CHARACTERS = 65_536
"""The longest comment on GitHub; a job summary may have 1 MiB. The parts share it as follows."""

_ROOM = {
    "sick sites": 20_000,
    "healthy sites": 8_000,
    "plasticity": 6_000,
    "skipped": 7_000,
    "findings": 13_000,
    "causes": 5_000,
}

_FIGURES = ("units", "dead", "share", "saturated", "rare", "always on", "headroom")


def render(report: Report) -> str:
    """Return Markdown with a final newline: verdict, sick sites, findings; healthy sites are folded away.

    It stays below `MOST_CHARACTERS`: the last lines of a list that is too long are only counted.
    """
    step = end.next_step(report)
    blocks = [
        [f"### {_MOOD[end.mood(report)]} deadrelu: {end.headline(report).lower()}"],
        [f"**{escape_prose(end.sentence(end.verdict_reason(report)))}**"],
        [escape_prose(end.conclusion(report))],
        [escape_prose(found)] if (found := gradients.in_words(report)) else [],
        list(_head(report)),
        *_tables(report),
        *_plasticity(report),
        list(_skipped(report)),
        list(_findings(report)),
        list(_causes(report)),
        [f"{step.purpose}: {code_span(step.command)}" if step.command else f"{escape_prose(step.purpose)}."],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _head(report: Report) -> Iterator[str]:
    """Yield the model and the data."""
    model, data = report.model, report.data
    named = code_span(model.path) if model.path else "a model in memory"
    yield f"- Model: {named} ({escape_prose(model.format)}, {count(model.parameters, 'parameter')})"
    source = code_span(data.source) if data.source else "in memory"
    source = "**synthetic inputs, no real data**" if data.kind == "synthetic" else source
    yield f"- Data: {source}, {count(data.samples, 'sample')} in {count(data.batches, 'batch', 'batches')}"


def _tables(report: Report) -> Iterator[list[str]]:
    """Yield the table of the sick sites, and that of the others behind a fold."""
    rows = site_rows(report)
    columns = [name for name in _FIGURES if name != "saturated" or saturated(report)]
    columns += ["gradient"] if report.gradients else []
    titles = [dead_title(report) if name == "dead" else name for name in columns]
    header = (f"| | site | after | {' | '.join(titles)} |", "|-|-|-" + "|-:" * len(columns) + "|")
    ill = [_row(row, columns) for row in rows if row.is_sick]
    well = [_row(row, columns) for row in rows if not row.is_sick]
    if ill:
        shown, rest = _within(ill, "sick sites", "more site")
        yield [*header, *shown]
        yield rest
    if well:
        shown, rest = _within(well, "healthy sites", "more healthy site")
        fold = f"<details><summary>{count(len(well), 'healthy site')}</summary>"
        yield [fold, "", *header, *shown, "", *rest, *([""] if rest else []), "</details>"]


def _row(row: Row, columns: Sequence[str]) -> str:
    """One site, with these of its figures."""
    site, shown = row.stats.site, figures(row.stats)
    name = f"**{code_span(site.id)} ALL DEAD**" if row.is_dead else code_span(site.id)
    cells = (
        _MARKS[row.condition],
        name,
        code_span(site.after) if site.after else "",
        *map(shown.__getitem__, columns),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plasticity(report: Report) -> Iterator[list[str]]:
    """Yield the table of ranks and weights, where they were asked for, and what its columns mean."""
    known = ranked_or_weighed(report)
    if not known:
        return
    figures = [plasticity_figures(stats) for stats in known]
    columns = plasticity_columns(figures)
    names = [code_span(stats.site.id).replace("|", "\\|") for stats in known]
    cells = [(name, *map(row.__getitem__, columns)) for name, row in zip(names, figures, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    shown, rest = _within(lines, "plasticity", "more site")
    titles = " | ".join(map(escape_prose, columns))
    yield ["**Plasticity**", "", f"| site | {titles} |", "|-" + "|-:" * len(columns) + "|", *shown]
    yield rest
    yield [escape_prose(plasticity_sentences(columns))]


def _skipped(report: Report) -> Iterator[str]:
    """Yield the sites that were not measured, and why."""
    if report.skipped:
        yield "**Skipped: neither alive nor dead**"
        yield ""
    lines = [
        f"- {code_span(site.id)} ({escape_prose(site.op)}): {escape_prose(site.reason)}" for site in report.skipped
    ]
    shown, rest = _within(lines, "skipped", "more skipped site")
    yield from (*shown, *(f"- {line}" for line in rest))


def _findings(report: Report) -> Iterator[str]:
    """Yield the findings, errors first; skipped sites have their own list."""
    lines = [_finding(finding) for finding in report.findings if finding.rule != "DR008"]
    shown, rest = _within(lines, "findings", "more finding")
    yield from (*shown, *(f"- {line}" for line in rest))


def _causes(report: Report) -> Iterator[str]:
    """Yield the main cause of each sick site."""
    lines = [f"- {code_span(id)}: {escape_prose(said)}" for id, said in causes_in_words(report)]
    if lines:
        yield "**Why**"
        yield ""
    shown, rest = _within(lines, "causes", "more site")
    yield from (*shown, *(f"- {line}" for line in rest))


def _finding(finding: Finding) -> str:
    """One finding with its units and its advice."""
    at = f" {code_span(finding.site)}" if finding.site is not None else ""
    text = " ".join(filter(None, (finding.message, end.which_units(finding), finding.suggestion)))
    return f"- {_OF_SEVERITY[finding.severity]} {finding.rule}{at}: {escape_prose(text)}"


def _within(lines: Sequence[str], part: str, noun: str) -> tuple[Sequence[str], list[str]]:
    """Return as many lines as the part has room for, and a line that counts the others."""
    sizes = accumulate(len(line) + 1 for line in lines)
    fit = sum(size <= _ROOM[part] for size in sizes)
    left = len(lines) - fit
    return lines[:fit], [f"… and {count(left, noun)}, left out here."] if left else []


def code_span(raw: str) -> str:
    """Return a name as a code span, fenced by more backticks than it holds."""
    text = BLOCKS.text(raw)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def escape_prose(raw: str) -> str:
    """Escape Markdown in a sentence, outside of code spans: it may hold names from the model."""
    pieces = re.split("(`[^`]+`)", BLOCKS.sentence(raw))
    return "".join(p if n % 2 else re.sub(r"([\\`*_\[\]<>|#@&~])", r"\\\1", p) for n, p in enumerate(pieces))
