"""The report for a GitHub workflow's log: a workflow command for each finding, which GitHub shows as an annotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadrelu.render import annotation
from deadrelu.render.conclusion import conclusion, headline, sentence, verdict_reason
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Finding, Report, Severity
from deadrelu.text.wording import count

MOST = 10
"""Annotations of one level that GitHub shows of a step: the last one stands for all that are left."""

MOST_NAMED = 20
"""Sites that the last one names."""

_COMMAND: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}
_OF_VERDICT: dict[str, Severity] = {"pass": "note", "fail": "error", "nothing measured": "error"}


def render(report: Report) -> str:
    """Workflow commands, one a line, with a final newline: the verdict, then the findings, errors first."""
    verdict = _OF_VERDICT[report.verdict]
    lines = []
    for severity in _COMMAND:
        found = [finding for finding in report.findings if finding.severity == severity]
        head = [_verdict(report, verdict)] if severity == verdict else []
        room = MOST - len(head)
        shown = found if len(found) <= room else found[: room - 1]
        lines += [*head, *_commands(shown, report)]
        if len(shown) < len(found):
            lines.append(_rest(found[len(shown) :], report, severity))
    return "\n".join(lines) + "\n"


def _verdict(report: Report, severity: Severity) -> str:
    """What the scan came to."""
    text = f"{sentence(verdict_reason(report))}\n{conclusion(report)}"
    return _command(severity, annotation.locate_model(report), f"deadrelu: {headline(report)}", text)


def _commands(findings: Sequence[Finding], report: Report) -> Iterator[str]:
    """A command for each finding, the advice on a second line."""
    known = annotation.known_sources(report)
    for finding in findings:
        text = f"{annotation.summary_line(finding)}\n{BLOCKS.sentence(finding.suggestion)}"
        yield _command(finding.severity, annotation.locate(finding, report, known), f"deadrelu {finding.rule}", text)


def _rest(left: Sequence[Finding], report: Report, severity: Severity) -> str:
    """One command for the findings that GitHub would not show."""
    names = [f"{f.rule} {BLOCKS.text(f.site)}" if f.site is not None else f.rule for f in left[:MOST_NAMED]]
    more = f" and {len(left) - MOST_NAMED:,} more" if len(left) > MOST_NAMED else ""
    text = f"{', '.join(names)}{more}. GitHub shows {MOST} of a level; the other formats list all."
    title = f"deadrelu: {count(len(left), f'more {severity}')}"
    return _command(severity, annotation.locate_model(report), title, text)


def _command(severity: Severity, place: annotation.Location | None, title: str, text: str) -> str:
    """One workflow command. A place without a line would never show, so a model file has line 1."""
    where = {}
    if place is not None:
        where = {"file": place.path, "line": place.line, "col": place.column, "endColumn": place.end_column}
    given = {key: str(value) for key, value in {**where, "title": title}.items() if value is not None}
    properties = ",".join(f"{key}={_property(value)}" for key, value in given.items())
    return f"::{_COMMAND[severity]} {properties}::{_data(text)}"


def _data(text: str) -> str:
    """A message as the runner's `unescapeData` reads it back."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property's value as the runner's `unescapeProperty` reads it back."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
