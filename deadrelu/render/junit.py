"""The report for the test view of a CI system: JUnit XML, a suite for the model and a test case per site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deadrelu.render import annotation
from deadrelu.render.conclusion import conclusion, headline, verdict_reason
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Finding, Report, Skipped

_NO_TIME = "1970-01-01T00:00:00"
"""The Ant schema requires a time, and equal reports must give equal bytes."""


@dataclass(frozen=True)
class _Case:
    """One test case: the errors at its site, or why it was skipped, or neither."""

    name: str
    errors: tuple[Finding, ...] = ()
    skipped: Skipped | None = None


def render(report: Report) -> str:
    """Return XML with a final newline, valid for the schemas of Jenkins and Ant.

    Error findings fail the case of their site. Warnings and notes, which JUnit does not know, go to the suite's output.
    """
    cases, broken = list(_cases(report)), report.verdict == "nothing measured"
    root = ET.Element("testsuites")
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_model(report),
        package="deadrelu",
        id="0",
        timestamp=_NO_TIME,
        hostname="localhost",
        tests=str(len(cases) + broken),
        failures=str(sum(bool(case.errors) for case in cases)),
        errors=str(int(broken)),
        skipped=str(sum(case.skipped is not None and not case.errors for case in cases)),
        time="0",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report):
        ET.SubElement(properties, "property", name=name, value=value)
    if broken:
        _error(suite, report)
    for case in cases:
        _case(suite, case, report)
    ET.SubElement(suite, "system-out").text = _output(report)
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cases(report: Report) -> Iterator[_Case]:
    """Yield the cases of the whole scan, of the sites in the order in which they ran, and of the skipped sites.

    In the whole scan only errors make a case. So do errors at a site that was neither measured nor skipped.
    """
    errors: dict[str | None, list[Finding]] = {}
    for finding in report.findings:
        if finding.severity == "error":
            errors.setdefault(finding.site, []).append(finding)
    yield from (_Case(f"whole scan: {finding.rule}", (finding,)) for finding in errors.pop(None, ()))
    for stats in report.sites:
        site, reason = stats.site, "its feature axis is a guess, so no limit applies"
        guessed = Skipped(id=site.id, op=site.op, reason=reason) if site.is_guessed else None
        yield _Case(site.id, tuple(errors.pop(site.id, ())), guessed)
    for skipped in report.skipped:
        yield _Case(skipped.id, tuple(errors.pop(skipped.id, ())), skipped)
    for unmeasured, found in errors.items():
        yield _Case(unmeasured or "", tuple(found))


def _case(suite: ET.Element, case: _Case, report: Report) -> None:
    """Add a case with its result."""
    name = _token(case.name, "unnamed site")
    element = ET.SubElement(suite, "testcase", classname=_model(report), name=name, time="0")
    if case.errors:
        codes = ", ".join(dict.fromkeys(finding.rule for finding in case.errors))
        message = " ".join(BLOCKS.sentence(finding.message) for finding in case.errors)
        text = "\n\n".join(_lines(finding, report) for finding in case.errors)
        ET.SubElement(element, "failure", type=codes, message=message).text = text
    elif case.skipped is not None:
        ET.SubElement(element, "skipped", message=BLOCKS.sentence(case.skipped.reason))


def _error(suite: ET.Element, report: Report) -> None:
    """Add the case of a scan that measured nothing."""
    case = ET.SubElement(suite, "testcase", classname=_model(report), name="whole scan: measured", time="0")
    ET.SubElement(case, "error", type="nothing measured", message=conclusion(report))


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the model, the data, the versions and the sums."""
    model, data, summary = report.model, report.data, report.summary
    yield "deadrelu", BLOCKS.text(report.tool.version)
    yield "torch", BLOCKS.text(report.tool.torch)
    yield "model.sha256", BLOCKS.text(model.sha256 or "")
    yield "data.source", BLOCKS.text(data.source or "in memory")
    yield "data.kind", data.kind
    yield "data.samples", str(data.samples)
    yield "verdict", summary.verdict
    yield "units", str(summary.units)
    yield "dead", str(summary.dead)
    yield "dead_fraction", f"{summary.dead_fraction:.6g}"


def _output(report: Report) -> str:
    """The verdict and its reason, the conclusion, and the warnings and notes."""
    quiet = [f"{f.severity}: {_lines(f, report)}" for f in report.findings if f.severity != "error"]
    return "\n\n".join([f"{headline(report)}: {BLOCKS.text(verdict_reason(report))}", conclusion(report), *quiet])


def _lines(finding: Finding, report: Report) -> str:
    """A finding with its units, and its advice on the next line."""
    return f"{finding.rule} {annotation.summary_line(finding)}\n{annotation.advice_line(finding, report)}"


def _model(report: Report) -> str:
    """The name of the suite."""
    return _token(report.model.path or "", "model in memory")


def _token(raw: str, empty: str) -> str:
    """Return a name that the schemas accept: without outer spaces, and never empty."""
    return BLOCKS.text(raw).strip() or empty
