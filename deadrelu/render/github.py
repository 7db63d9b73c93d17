"""The report for the log of a GitHub workflow: a command per finding, which GitHub shows as an annotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadrelu.render import annotation
from deadrelu.render.conclusion import conclusion, headline, sentence, verdict_reason
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Finding, Report, Severity
from deadrelu.text.wording import count, first_few

MOST = 10
"""GitHub shows so many annotations of one level per step: the last one stands for all that are left."""

_MOST_NAMED = 20
"""How many sites the last one names."""

_COMMAND: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}
_OF_VERDICT: dict[str, Severity] = {"pass": "note", "fail": "error", "nothing measured": "error"}


def render(report: Report) -> str:
    """Return workflow commands, one per line, with a final newline: the verdict, then the findings, errors first."""
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
    """The command for the verdict."""
    text = f"{sentence(verdict_reason(report))}\n{conclusion(report)}"
    return _command(severity, annotation.locate_model(report), f"deadrelu: {headline(report)}", text)


def _commands(findings: Sequence[Finding], report: Report) -> Iterator[str]:
    """Yield a command for each finding, with the advice on a second line."""
    known = annotation.known_sources(report)
    for finding in findings:
        text = f"{annotation.summary_line(finding)}\n{annotation.advice_line(finding, report)}"
        yield _command(finding.severity, annotation.locate(finding, report, known), f"deadrelu {finding.rule}", text)


def _rest(left: Sequence[Finding], report: Report, severity: Severity) -> str:
    """The one command for the findings that GitHub would not show."""
    names = [f"{f.rule} {BLOCKS.text(f.site)}" if f.site is not None else f.rule for f in left]
    text = f"{first_few(names, _MOST_NAMED)}. GitHub shows {MOST} of a level; other formats list them all."
    title = f"deadrelu: {count(len(left), f'more {severity}')}"
    return _command(severity, annotation.locate_model(report), title, text)


def _command(severity: Severity, place: annotation.Location | None, title: str, text: str) -> str:
    """A workflow command. GitHub shows no annotation without a line, so a model file has line 1."""
    where = {}
    if place is not None:
        where = {"file": place.path, "line": place.line, "col": place.column, "endColumn": place.end_column}
    given = {key: str(value) for key, value in {**where, "title": title}.items() if value is not None}
    properties = ",".join(f"{key}={_property(value)}" for key, value in given.items())
    return f"::{_COMMAND[severity]} {properties}::{_data(text)}"


def _data(text: str) -> str:
    """Escape a message for the runner's `unescapeData`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape the value of a property for the runner's `unescapeProperty`."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
