"""The nouns of a scan, and their JSON: `Site`, `SiteStats`, `Skipped`, `Finding`, `Report`.

Fractions are in 0..1. Per-unit tuples stand in unit order. Numbers that are not finite are `None` (JSON `null`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.contract import check_report
from deadrelu.errors import FileError
from deadrelu.sites import Sites
from deadrelu.wording import count, percent, printable

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA_VERSION = 1
_ANEW = "write one with `deadrelu scan MODEL -o json=report.json`"

Severity = Literal["error", "warning", "note"]
Verdict = Literal["pass", "fail", "nothing measured"]
DataKind = Literal["dataset", "synthetic"]
Stats = Literal["fired", "rates", "full"]
"""How much is measured: which units fired at all; how often; and how high, how large, and whether all is finite."""

AxisBy = Literal["producer", "flag", "guess"]
"""Who says which axis holds the units: the layers around the call, `--feature-axis`, or nobody."""

NO_ROWS = "called, but never with any rows: no sample reached it"
"""The reason to skip a site whose pre-activations were all empty."""

Setting = str | int | float | bool | None | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where in the user's code a functional call stands; `column` and `end_column` count characters from 1."""

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """One activation call of the forward pass.

    `module` is the path of the activation module, or of the module whose forward made a functional call. `call`
    counts from 1 among the `calls` of the same module (or same function in the same module) in one forward.
    `shape` is the pre-activation's, with "N" for the samples and "*" for a size that varied. `feature_axis` tells the
    units apart; None where the whole tensor is one unit. `alias` is the id by which earlier versions knew a functional
    call, where that is another.
    """

    id: str
    op: str
    module: str
    call: int
    calls: int
    after: str | None
    source: Source | None
    swappable: bool
    feature_axis: int | None
    shape: tuple[int | str, ...]
    units: int
    feature_axis_by: AxisBy = "producer"
    alias: str | None = None

    @property
    def is_guessed(self) -> bool:
        """Whether its units are a guess, so that they pass and fail nothing."""
        return self.feature_axis_by == "guess"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted at one site; the raw material of `SiteStats`, one entry a unit. Two of them add.

    `rows` is how many slices along the first dimension were seen: `samples`, unless the site flattens time into
    the batch. `positions` is per unit. `maxima` is the largest finite pre-activation, or None if there was none.
    """

    samples: int
    rows: int
    positions: int
    fires: tuple[int, ...]
    row_fires: tuple[int, ...]
    maxima: tuple[float | None, ...]
    output_sums: tuple[float, ...]
    nonfinite: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SiteStats:
    """What was measured at one site; `sample_rate` is the share of samples (rows, if `rate_per` says so) that fired.

    From rates and `rows` and `positions` the counts come back exactly, so that reports can be added. With `stats`
    other than "full" maxima and means are None; with "fired" the rates of units that fired are None too, and `samples`
    are those on which the site was looked at: until each of its units had fired.
    """

    site: Site
    samples: int
    positions: int
    rows: int
    rate_per: Literal["sample", "row"]
    dead_units: tuple[int, ...]
    rare_units: tuple[int, ...]
    always_on_units: tuple[int, ...]
    nonfinite_units: tuple[int, ...]
    firing_rate: tuple[float | None, ...]
    sample_rate: tuple[float | None, ...]
    max_preactivation: tuple[float | None, ...]
    mean_activation: tuple[float | None, ...]
    dormancy: tuple[float | None, ...]
    silence_bound: float

    @property
    def knows_rates(self) -> bool:
        """Whether it was counted how often each unit fired; otherwise none is called rare or always on."""
        return None not in self.firing_rate

    @property
    def dead(self) -> int:
        """How many units fired at no position."""
        return len(self.dead_units)

    @property
    def dead_fraction(self) -> float:
        """Dead units over units, in 0..1."""
        return self.dead / self.site.units

    @property
    def headroom(self) -> float | None:
        """How near the nearest dead unit came to firing: the largest pre-activation that any of them saw."""
        seen = (self.max_preactivation[unit] for unit in self.dead_units)
        return max((value for value in seen if value is not None), default=None)

    def __repr__(self) -> str:
        """One line; the figures of each unit would fill the screen."""
        dead = f"{self.dead:,} of {count(self.site.units, 'unit')} dead"
        return printable(f"<SiteStats {self.site.id}: {dead} on {count(self.samples, 'sample')}>")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A site that could not be measured, and why."""

    id: str
    op: str
    reason: str
    alias: str | None = None

    @property
    def is_unreached(self) -> bool:
        """Whether the data did not reach the site: other data, or another process, may."""
        return self.reason == NO_ROWS or self.reason.startswith("never called")


@dataclass(frozen=True, kw_only=True)
class Leaky:
    """A call of a leaky activation (LeakyReLU, PReLU, GELU, …): named, and not measured, since no unit of it dies.

    The fields are those of a `Site`; `units` is None where it is not known which axis holds them.
    """

    id: str
    op: str
    module: str
    call: int
    calls: int
    after: str | None
    units: int | None

    @property
    def alias(self) -> None:
        """No former id: earlier versions did not name such calls."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule says of a site (or, with `site` None, of the whole scan)."""

    rule: str
    severity: Severity
    site: str | None
    units: tuple[int, ...] = ()
    message: str
    suggestion: str

    def __repr__(self) -> str:
        """One line, without the numbers of its units."""
        at = f" at {self.site}" if self.site is not None else ""
        return printable(f"<Finding {self.rule} {self.severity}{at}: {self.message}>")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Which deadrelu and which torch measured."""

    name: str
    version: str
    torch: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which model was measured; `path` as given; `nonfinite_weights` counts the NaN and infinite values of tensors."""

    path: str | None
    format: str
    sha256: str | None
    parameters: int
    nonfinite_weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """Which data the model ran on."""

    source: str | None
    kind: DataKind
    samples: int
    batches: int
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The whole scan in one row."""

    verdict: Verdict
    sites: int
    skipped: int
    units: int
    dead: int
    rare: int
    always_on: int
    dead_fraction: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """One scan: what was measured, on what, by what; and, once judged, what follows from it.

    `leaky` are the activation calls of which no unit can die, in the order in which they first ran.
    """

    tool: Tool
    model: ModelInfo
    data: DataInfo
    settings: Mapping[str, Setting]
    sites: Sites[SiteStats]
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = "nothing measured"
    leaky: tuple[Leaky, ...] = ()

    def __post_init__(self) -> None:
        """Take a plain tuple of sites too."""
        object.__setattr__(self, "sites", Sites(self.sites))

    def __repr__(self) -> str:
        """One line: the model, the verdict, how much is dead."""
        summary = self.summary
        dead = f"{summary.dead:,} of {count(summary.units, 'unit')} dead ({percent(summary.dead_fraction)})"
        skipped = f", {summary.skipped:,} skipped" if summary.skipped else ""
        where = f"at {count(summary.sites, 'site')}{skipped}"
        return printable(
            f"<Report {self.model.path or 'of a model in memory'}: {self.verdict.upper()}, {dead} {where}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows in place of the `repr`."""
        from deadrelu.render.notebook import fragment

        return fragment(self)

    @property
    def is_all_leaky(self) -> bool:
        """Whether every activation call that ran is leaky, so that nothing can die."""
        return bool(self.leaky) and not self.sites and not self.skipped

    @property
    def gated(self) -> tuple[SiteStats, ...]:
        """The sites whose units are known: those with a guessed axis pass and fail no limit."""
        return tuple(stats for stats in self.sites if not stats.site.is_guessed)

    @property
    def summary(self) -> Summary:
        """Sums over the sites; `dead_fraction` is dead units over all units, 0 where nothing was measured."""
        units = sum(stats.site.units for stats in self.sites)
        dead = sum(stats.dead for stats in self.sites)
        return Summary(
            verdict=self.verdict,
            sites=len(self.sites),
            skipped=len(self.skipped),
            units=units,
            dead=dead,
            rare=sum(len(stats.rare_units) for stats in self.sites),
            always_on=sum(len(stats.always_on_units) for stats in self.sites),
            dead_fraction=dead / units if units else 0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types, in the order of the contract (`deadrelu/report.schema.json`)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": asdict(self.tool),
            "model": asdict(self.model),
            "data": asdict(self.data),
            "settings": dict(self.settings),
            "summary": asdict(self.summary),
            "sites": [_stats_to_dict(stats) for stats in self.sites],
            "skipped": [_without_none(asdict(skipped), "alias") for skipped in self.skipped],
            **({"leaky": [asdict(leaky) for leaky in self.leaky]} if self.leaky else {}),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def to_json(self) -> str:
        """The report as JSON text with a final newline; the same report gives the same bytes."""
        return json.dumps(_finite(self.to_dict()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_pandas(self, *, units: bool = False) -> DataFrame:
        """The figures as a data frame, one row a site or, with `units`, one row a unit.

        Rates and shares are in 0..1; what was not measured is NaN. Raises `UsageError` where pandas is not installed.
        """
        from deadrelu.render.frame import by_site, by_unit

        return by_unit(self) if units else by_site(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read back what `to_dict` made. Raises `FileError` where the contract is broken."""
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            raise FileError(
                f"not a deadrelu report of schema version {SCHEMA_VERSION} (schema_version is {version!r:.60})",
                hint=_ANEW,
            )
        try:
            check_report(data)
            return cls(
                tool=Tool(**data["tool"]),
                model=ModelInfo(**data["model"]),
                data=DataInfo(**data["data"]),
                settings={key: tuple(v) if isinstance(v, list) else v for key, v in data["settings"].items()},
                sites=Sites(_stats_from_dict(site) for site in data["sites"]),
                skipped=tuple(Skipped(**skipped) for skipped in data["skipped"]),
                findings=tuple(Finding(**{**f, "units": tuple(f["units"])}) for f in data["findings"]),
                verdict=data["summary"]["verdict"],
                leaky=tuple(Leaky(**leaky) for leaky in data.get("leaky", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(f"a broken deadrelu report: {error}", hint=_ANEW) from error

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read back what `to_json` wrote. Raises `FileError` if it is no JSON or no report."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileError(f"not a JSON report: {error}", hint=_ANEW) from error
        return cls.from_dict(data)


def _stats_to_dict(stats: SiteStats) -> dict[str, Any]:
    """A site and its figures in one object."""
    out = _without_none(asdict(stats.site), "alias")
    if stats.site.source is not None:
        out["source"] = _without_none(out["source"], "column", "end_column")
    figures = {f.name: getattr(stats, f.name) for f in fields(stats) if f.name != "site"}
    return out | {"dead": stats.dead, "dead_fraction": stats.dead_fraction} | figures


def _without_none(data: dict[str, Any], *optional: str) -> dict[str, Any]:
    """The same object without those of its optional members that are None."""
    return {key: value for key, value in data.items() if value is not None or key not in optional}


def _stats_from_dict(data: Mapping[str, Any]) -> SiteStats:
    """The inverse of `_stats_to_dict`; the derived figures are derived again."""

    def pick(kind: type, skip: str = "") -> dict[str, Any]:
        names = (f.name for f in fields(kind) if f.name != skip and (f.name in data or f.default is MISSING))
        return {name: tuple(data[name]) if isinstance(data[name], list) else data[name] for name in names}

    site = pick(Site)
    if site["source"] is not None:
        site["source"] = Source(**site["source"])
    return SiteStats(site=Site(**site), **pick(SiteStats, skip="site"))


def _finite(value: Any) -> Any:
    """The same tree with every number that is not finite as None: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
