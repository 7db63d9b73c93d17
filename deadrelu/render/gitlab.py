"""The report for GitLab's merge requests, in the Code Quality format: an object per finding."""

from __future__ import annotations

import re

from deadrelu.render import annotation
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Report, Severity
from deadrelu.report.serialisation import to_json

_SEVERITY: dict[Severity, str] = {"error": "critical", "warning": "major", "note": "info"}


def render(report: Report) -> str:
    """Return a JSON array with a final newline; it is empty if there is no finding.

    GitLab accepts relative paths only: an absolute path loses its root, and a model in memory is called `model`.
    """
    known = annotation.known_sources(report)
    issues = []
    for finding, fingerprint in zip(report.findings, annotation.fingerprints(report), strict=True):
        place = annotation.locate(finding, report, known) or annotation.Location("model")
        issues.append(
            {
                "description": f"{annotation.summary_line(finding)} {annotation.advice_line(finding, report)}",
                "check_name": finding.rule,
                "fingerprint": fingerprint,
                "severity": _SEVERITY[finding.severity],
                "location": {
                    "path": re.sub("^([A-Za-z]:)?/+", "", BLOCKS.text(place.path)) or "model",
                    "lines": {"begin": place.line},
                },
            }
        )
    return to_json(issues)
