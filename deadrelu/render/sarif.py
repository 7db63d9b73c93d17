"""The report for code scanning: SARIF 2.1.0 (OASIS, errata 01), a result per finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deadrelu.judge.rules import RULES, Rule
from deadrelu.render import annotation
from deadrelu.render.annotation import Location
from deadrelu.render.conclusion import conclusion, verdict_reason
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Finding, Report, Severity, SiteStats
from deadrelu.report.serialisation import to_json

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_PROBLEM: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "recommendation"}


def render(report: Report) -> str:
    """Return SARIF with a final newline, without times or machine names: equal reports give equal bytes."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]}
    # A file name may hold bytes that are not UTF-8; they become escapes.
    return to_json(log).encode("utf-8", "backslashreplace").decode()


def _run(report: Report) -> dict[str, Any]:
    """The one run."""
    codes = list(dict.fromkeys([*RULES, *(finding.rule for finding in report.findings)]))
    model = annotation.locate_model(report)
    # Up to its last slash the id is the category by which GitHub tells several models of one commit apart.
    identity = f"deadrelu/{model.path}/" if model else "deadrelu/"
    return {
        "tool": {
            "driver": {
                "name": "deadrelu",
                "semanticVersion": report.tool.version,
                "rules": [_descriptor(RULES[code]) if code in RULES else {"id": code} for code in codes],
            }
        },
        "automationDetails": {"id": identity},
        "invocations": [_invocation(report)],
        "artifacts": [] if model is None else [_artifact(model, report)],
        "columnKind": "unicodeCodePoints",
        "results": list(_results(report, codes)),
        "properties": {
            "verdict": report.verdict,
            "reason": verdict_reason(report),
            "conclusion": conclusion(report),
            "summary": report.to_dict()["summary"],
            "data": report.to_dict()["data"],
            "torch": report.tool.torch,
        },
    }


def _descriptor(rule: Rule) -> dict[str, Any]:
    """One rule with its help."""
    return {
        "id": rule.code,
        "name": rule.name.title().replace("-", ""),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.summary} {rule.why} {rule.fix}",
            "markdown": f"**{rule.summary}**\n\n{rule.why}\n\n**What to do:** {rule.fix}",
        },
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": ["pytorch", "dead-relu"], "problem.severity": _PROBLEM[rule.severity]},
    }


def _invocation(report: Report) -> dict[str, Any]:
    """Whether the scan succeeded; a failed gate does not make it fail."""
    if report.verdict != "nothing measured":
        return {"executionSuccessful": True}
    notice = {"level": "error", "message": {"text": conclusion(report)}}
    return {"executionSuccessful": False, "toolExecutionNotifications": [notice]}


def _artifact(model: Location, report: Report) -> dict[str, Any]:
    """The model file."""
    hashes = {} if report.model.sha256 is None else {"hashes": {"sha-256": report.model.sha256}}
    return {"location": {"uri": model.uri}, "roles": ["analysisTarget"], **hashes}


def _results(report: Report, codes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a result for each finding, in order."""
    sites = {stats.site.id: stats for stats in report.sites}
    known = annotation.known_sources(report)
    for finding, fingerprint in zip(report.findings, annotation.fingerprints(report), strict=True):
        stats = sites.get(finding.site) if finding.site is not None else None
        yield {
            "ruleId": finding.rule,
            "ruleIndex": codes.index(finding.rule),
            "level": finding.severity,
            "message": {
                "text": _literal(f"{annotation.summary_line(finding)} {annotation.advice_line(finding, report)}")
            },
            "locations": list(_locations(finding, annotation.locate(finding, report, known))),
            "partialFingerprints": {"deadrelu/v1": fingerprint},
            "properties": {
                "units": list(finding.units),
                "suggestion": finding.suggestion,
                **({} if stats is None else _figures(stats)),
            },
        }


def _locations(finding: Finding, place: Location | None) -> Iterable[dict[str, Any]]:
    """Return the place in a file and the site of the model; nothing if neither is known."""
    location: dict[str, Any] = {}
    if place is not None:
        region = {"startLine": place.line, "startColumn": place.column, "endColumn": place.end_column}
        artifact: dict[str, Any] = {"uri": place.uri}
        physical = {"artifactLocation": artifact, "region": {k: v for k, v in region.items() if v is not None}}
        location["physicalLocation"] = physical
    if finding.site is not None:
        name = BLOCKS.text(finding.site)
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": finding.site, "kind": "function"}]
    return [location] if location else []


def _figures(stats: SiteStats) -> dict[str, Any]:
    """The figures of the site."""
    return {
        "op": stats.site.op,
        "after": stats.site.after,
        "siteUnits": stats.site.units,
        "dead": stats.dead,
        "deadFraction": stats.dead_fraction,
        "samples": stats.samples,
        "positions": stats.positions,
        "headroom": stats.headroom,
        "silenceBound": stats.silence_bound,
    }


def _literal(text: str) -> str:
    """Escape what would be a placeholder (SARIF 2.1.0, 3.11.5) or a link (3.11.6) in a message."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "\\](")
