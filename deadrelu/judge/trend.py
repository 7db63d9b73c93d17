"""The dead share of each site over the checkpoints of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.report import Report

TREND_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One site over the checkpoints: its dead units and the share in 0..1 at each; None where it was not measured."""

    id: str
    dead: tuple[int | None, ...]
    share: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The checkpoints in the order given, by name, and their lines; `total` is over all sites of each."""

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    lines: tuple[Line, ...]
    total: Line

    def to_dict(self) -> dict[str, Any]:
        """The trend as JSON types."""
        return {
            "deadrelu_trend": TREND_VERSION,
            "checkpoints": [
                {"name": name, "sha256": report.model.sha256, "summary": asdict(report.summary)}
                for name, report in zip(self.names, self.reports, strict=True)
            ],
            "sites": [{"id": line.id, "dead": list(line.dead), "share": list(line.share)} for line in self.lines],
        }


def trend(named: Sequence[tuple[str, Report]]) -> Trend:
    """Line up the reports of several checkpoints. Raises `UsageError` for none."""
    if not named:
        raise UsageError("there is no checkpoint", hint="deadrelu trend CHECKPOINT CHECKPOINT …")
    reports = tuple(report for _, report in named)
    sites = [{stats.site.id: stats for stats in report.sites} for report in reports]
    ids = dict.fromkeys(name for stats in sites for name in stats)
    return Trend(
        names=tuple(name for name, _ in named),
        reports=reports,
        lines=tuple(
            Line(
                id=name,
                dead=tuple(at[name].dead if name in at else None for at in sites),
                share=tuple(at[name].dead_fraction if name in at else None for at in sites),
            )
            for name in ids
        ),
        total=Line(
            id="",
            dead=tuple(report.summary.dead for report in reports),
            share=tuple(report.summary.dead_fraction if report.sites else None for report in reports),
        ),
    )
