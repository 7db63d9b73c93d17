"""What the formats for CI systems share: the location of a finding, its line of text, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from deadrelu.render.causes import main_cause
from deadrelu.render.conclusion import which_units
from deadrelu.render.glyphs import BLOCKS
from deadrelu.report import Finding, Report, Source

_DRIVE = re.compile("[A-Za-z]:/")


@dataclass(frozen=True)
class Location:
    """A file (with forward slashes, without a leading `./`), a line, and columns from 1 with an exclusive end."""

    path: str
    line: int = 1
    column: int | None = None
    end_column: int | None = None

    @property
    def absolute(self) -> bool:
        """Whether the path starts at a root."""
        return self.path.startswith("/") or _DRIVE.match(self.path) is not None

    @property
    def uri(self) -> str:
        """The path as a percent-encoded URI: relative, or absolute with the scheme `file`."""
        encoded = quote(self.path.encode("utf-8", "backslashreplace"))
        if not self.absolute:
            return encoded  # the colon of `timm:resnet18` is encoded too, or it would look like a scheme
        if _DRIVE.match(self.path):
            return f"file:///{self.path[:2]}{encoded[4:]}"
        return f"file:{encoded}" if encoded.startswith("//") else f"file://{encoded}"


def known_sources(report: Report) -> Mapping[str, Source]:
    """Return where in the user's code each site is, by id, as far as known."""
    return {stats.site.id: stats.site.source for stats in report.sites if stats.site.source is not None}


def locate(finding: Finding, report: Report, known: Mapping[str, Source]) -> Location | None:
    """Return the line of the functional call, from `known` (see `known_sources`), or else line 1 of the model file.

    CI systems ignore a finding without a line. None for a model in memory, unless a line of code is known.
    """
    source = known.get(finding.site) if finding.site is not None else None
    if source is not None:
        return Location(_slashed(source.file), source.line, source.column, source.end_column)
    return locate_model(report)


def locate_model(report: Report) -> Location | None:
    """Return the model file; None for a model in memory."""
    return None if report.model.path is None else Location(_slashed(report.model.path))


def summary_line(finding: Finding) -> str:
    """Return site, message and unit numbers on one line, without the advice and without control codes."""
    at = "" if finding.site is None else f"{BLOCKS.text(finding.site)}: "
    return at + BLOCKS.sentence(f"{finding.message} {which_units(finding)}")


def advice_line(finding: Finding, report: Report) -> str:
    """Return what to do about a finding, on one line; of dead units, the main cause comes before it."""
    id = finding.site if finding.rule in ("DR001", "DR002") else None
    cause = next((main_cause(stats) for stats in report.sites if stats.site.id == id), "")
    return BLOCKS.sentence(f"{cause} {finding.suggestion}".strip())


def fingerprints(report: Report) -> tuple[str, ...]:
    """Return a fingerprint for each finding that is the same in the next run; no two are equal.

    It is made of the model's path, the rule and the site, not of figures: a finding that grows stays the same one.
    """
    seen: Counter[tuple[str, str | None]] = Counter()
    out = []
    for finding in report.findings:
        seen[finding.rule, finding.site] += 1
        parts = [report.model.path, finding.rule, finding.site, seen[finding.rule, finding.site]]
        out.append(hashlib.sha256(json.dumps(parts).encode()).hexdigest())
    return tuple(out)


def _slashed(path: str) -> str:
    """Return the path with forward slashes, without a leading `./`."""
    return posixpath.normpath(path.replace("\\", "/"))
