"""The data of a scan and their JSON: frozen dataclasses, without torch."""

from __future__ import annotations

from deadrelu.report.report import (
    SCHEMA_VERSION,
    DataInfo,
    DataKind,
    Finding,
    ModelInfo,
    Report,
    Setting,
    Severity,
    Summary,
    Tool,
    Verdict,
)
from deadrelu.report.site import (
    NO_ROWS,
    AxisBy,
    Counts,
    FeatureRanks,
    Rung,
    Site,
    SiteStats,
    Skipped,
    Source,
    Stats,
)

__all__ = [
    "NO_ROWS",
    "SCHEMA_VERSION",
    "AxisBy",
    "Counts",
    "DataInfo",
    "DataKind",
    "Finding",
    "ModelInfo",
    "FeatureRanks",
    "Report",
    "Rung",
    "Setting",
    "Severity",
    "Site",
    "SiteStats",
    "Skipped",
    "Source",
    "Stats",
    "Summary",
    "Tool",
    "Verdict",
]
