"""One scan as data: `Report`, with its model, its data and its findings, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.errors import FileError
from deadrelu.report.causes import Inputs
from deadrelu.report.contract import check_report
from deadrelu.report.gradients import Gradients
from deadrelu.report.optimizer import OptimizerInfo
from deadrelu.report.serialisation import stats_from_dict, stats_to_dict, to_json, without_none
from deadrelu.report.site import Sites, SiteStats, Skipped
from deadrelu.text.wording import count, percent, printable

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA_VERSION = 1
_HINT = "write one with `deadrelu scan MODEL -o json=report.json`"

Severity = Literal["error", "warning", "note"]
Verdict = Literal["pass", "fail", "nothing measured"]
DataKind = Literal["dataset", "synthetic"]
Setting = str | int | float | bool | None | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule found at a site, or in the whole scan if `site` is None."""

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
    """The versions of deadrelu and torch that measured, and the counter (None in reports of earlier versions).

    "native" is the loop in C where it applies, "torch" uses torch's operations only. Their means differ by rounding.
    """

    name: str
    version: str
    torch: str
    counter: Literal["native", "torch"] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model: its `path` as given, and by tensor the number of NaN and infinite values in `nonfinite_weights`.

    `optimizers` is what the state of each optimizer in a training checkpoint says.
    """

    path: str | None
    format: str
    sha256: str | None
    parameters: int
    nonfinite_weights: Mapping[str, int] = field(default_factory=dict)
    optimizers: tuple[OptimizerInfo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return without_none(
            asdict(self) | {"optimizers": [each.to_dict() for each in self.optimizers] or None}, "optimizers"
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelInfo:
        """Read back what `to_dict` returned."""
        return cls(**{**data, "optimizers": tuple(map(OptimizerInfo.from_dict, data.get("optimizers", ())))})


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The data that the model ran on."""

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
    """One scan: the model, the data, the figures of each site, and the findings and verdict once it is judged.

    `gradients` is there where a loss was given, `inputs` where a layer with weights was met.
    """

    tool: Tool
    model: ModelInfo
    data: DataInfo
    settings: Mapping[str, Setting]
    sites: Sites
    skipped: tuple[Skipped, ...]
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = "nothing measured"
    gradients: Gradients | None = None
    inputs: Inputs | None = None

    def __post_init__(self) -> None:
        """Accept a plain tuple of sites too."""
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
        """Return the HTML that a notebook shows in place of the `repr`."""
        from deadrelu.render.notebook import fragment

        return fragment(self)

    @property
    def gated(self) -> tuple[SiteStats, ...]:
        """The sites that limits apply to: not those whose feature axis is a guess."""
        return tuple(stats for stats in self.sites if not stats.site.is_guessed)

    @property
    def summary(self) -> Summary:
        """The sums over all sites; `dead_fraction` is dead units over units, 0 if nothing was measured."""
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
        """Return the report as JSON types, in the order of the schema (`deadrelu/report.schema.json`)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": without_none(asdict(self.tool), "counter"),
            "model": self.model.to_dict(),
            "data": asdict(self.data),
            "settings": dict(self.settings),
            "summary": asdict(self.summary),
            "sites": [stats_to_dict(stats) for stats in self.sites],
            "skipped": [without_none(asdict(skipped), "alias") for skipped in self.skipped],
            **({"gradients": self.gradients.to_dict()} if self.gradients else {}),
            **({"inputs": self.inputs.to_dict()} if self.inputs else {}),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def to_json(self) -> str:
        """Return the report as JSON text with a final newline; equal reports give equal bytes."""
        return to_json(self.to_dict())

    def to_pandas(self, *, units: bool = False) -> DataFrame:
        """Return the figures as a data frame: one row per site or, with `units`, one row per unit.

        Rates and shares are in 0..1; what was not measured is NaN. Raises `UsageError` if pandas is not installed.
        """
        from deadrelu.report.frame import site_frame, unit_frame

        return unit_frame(self) if units else site_frame(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read back what `to_dict` returned. Raises `FileError` if `data` does not follow the schema.

        Earlier versions listed leaky activations apart, and did not measure them: these are left out.
        """
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            raise FileError(
                f"not a deadrelu report of schema version {SCHEMA_VERSION} (schema_version is {version!r:.60})",
                hint=_HINT,
            )
        try:
            check_report(data)
            return cls(
                tool=Tool(**data["tool"]),
                model=ModelInfo.from_dict(data["model"]),
                data=DataInfo(**data["data"]),
                settings={key: tuple(v) if isinstance(v, list) else v for key, v in data["settings"].items()},
                sites=Sites(stats_from_dict(site) for site in data["sites"]),
                skipped=tuple(Skipped(**skipped) for skipped in data["skipped"]),
                findings=tuple(Finding(**{**f, "units": tuple(f["units"])}) for f in data["findings"]),
                verdict=data["summary"]["verdict"] if data["sites"] else "nothing measured",
                gradients=Gradients.from_dict(data["gradients"]) if "gradients" in data else None,
                inputs=Inputs.from_dict(data["inputs"]) if "inputs" in data else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(f"a broken deadrelu report: {error}", hint=_HINT) from error

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read back what `to_json` returned. Raises `FileError` if `text` is not JSON or not a report."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileError(f"not a JSON report: {error}", hint=_HINT) from error
        return cls.from_dict(data)
