"""Sites and their figures as JSON types and back, and JSON text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from deadrelu.report.causes import UnitCause
from deadrelu.report.site import FeatureRanks, Rung, Site, SiteStats, Source

_OPTIONAL = (
    "definition_units",
    "definition_ladder",
    "ranks",
    "weight_in",
    "weight_out",
    "gradient_rms",
    "gradient_score",
    "causes",
    "born_dead_units",
    "proved_units",
    "woken_units",
)


def stats_to_dict(stats: SiteStats) -> dict[str, Any]:
    """Return a site and its figures as one object."""
    out = without_none(asdict(stats.site), "alias")
    if stats.site.source is not None:
        out["source"] = without_none(out["source"], "column", "end_column")
    figures = {f.name: getattr(stats, f.name) for f in fields(stats) if f.name != "site"}
    derived = {"dead": stats.dead, "dead_fraction": stats.dead_fraction, "saturated": stats.saturated}
    figures["definition_ladder"] = [asdict(rung) for rung in stats.definition_ladder] or None
    figures["ranks"] = stats.ranks and asdict(stats.ranks)
    if not stats.gradient_rms:
        del figures["zero_gradient_units"]  # without gradients, no unit is known to have none
    figures["causes"] = [asdict(cause) for cause in stats.causes]
    for name in ("weight_in", "weight_out", "gradient_rms", "gradient_score", "causes"):
        figures[name] = figures[name] or None
    return out | derived | without_none(figures, *_OPTIONAL)


def without_none(data: dict[str, Any], *optional: str) -> dict[str, Any]:
    """Return the object without those of its `optional` members that are None."""
    return {key: value for key, value in data.items() if value is not None or key not in optional}


def stats_from_dict(data: Mapping[str, Any]) -> SiteStats:
    """Read back what `stats_to_dict` returned; derived figures are computed again."""

    def pick(kind: type, skip: str = "") -> dict[str, Any]:
        names = (f.name for f in fields(kind) if f.name != skip and (f.name in data or f.default is MISSING))
        return {name: tuple(data[name]) if isinstance(data[name], list) else data[name] for name in names}

    site = pick(Site)
    if site["source"] is not None:
        site["source"] = Source(**site["source"])
    figures = pick(SiteStats, skip="site")
    figures["definition_ladder"] = tuple(Rung(**rung) for rung in figures.get("definition_ladder", ()))
    figures["causes"] = tuple(map(UnitCause.from_dict, data.get("causes", ())))
    if "ranks" in data:
        figures["ranks"] = FeatureRanks(**data["ranks"])
    return SiteStats(site=Site(**site), **figures)


def finite(value: Any) -> Any:
    """Replace every non-finite number in a tree by None: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(data: Any) -> str:
    """Return JSON text with a final newline; the same data gives the same bytes."""
    return json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
