"""What is certain of the silent units of a model over a box of inputs: `Proof`, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from deadrelu.report.report import DataInfo, ModelInfo, Setting, Tool
from deadrelu.report.serialisation import to_json
from deadrelu.text.wording import count, printable

PROOF_VERSION = 1
Certainty = Literal["proved", "woken", "open"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """The inputs that a proof is about: the range of each feature in the data, or one range for all of them.

    `margin` is how much was added to the range of the data at both ends, as a share of its width.
    """

    kind: Literal["data", "range"]
    low: float | None = None
    high: float | None = None
    margin: float = 0.0

    def __str__(self) -> str:
        """In words."""
        if self.kind == "range":
            return f"every input between {self.low:g} and {self.high:g}"
        wider = f", {self.margin:.0%} wider at both ends" if self.margin else ""
        return f"every input in the range of each feature in the data{wider}"


@dataclass(frozen=True, kw_only=True)
class SiteProof:
    """One site: its units that were silent on the data, in three parts, and what else is proved of its units.

    Proved units do not fire for any input of the box; for woken ones an input was found that makes them fire. Of
    `conditional_units`, which are open or woken, it is proved that they do not fire as long as the features that enter
    the layer before them stay in the range that they have on the data. `always_on_units` fire for every input of the
    box. `upper_bound` is that of the pre-activation, by unit, None where none was found. `obstacle` says why there is
    no bound.
    """

    id: str
    op: str
    units: int
    silent: int
    proved_units: tuple[int, ...] = ()
    woken_units: tuple[int, ...] = ()
    open_units: tuple[int, ...] = ()
    conditional_units: tuple[int, ...] = ()
    always_on_units: tuple[int, ...] = ()
    upper_bound: tuple[float | None, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was proved of a model, over a `box`. `seconds` are those of each part."""

    tool: Tool
    model: ModelInfo
    data: DataInfo
    settings: Mapping[str, Setting]
    box: Box
    sites: tuple[SiteProof, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    next_command: str | None = None

    def __repr__(self) -> str:
        """One line: how many silent units are proved, woken and open."""
        parts = ", ".join(f"{number:,} {word}" for word, number in self.totals.items())
        silent = count(sum(site.silent for site in self.sites), "silent unit")
        return printable(f"<Proof {self.model.path or 'of a model in memory'}: {silent}, {parts}>")

    @property
    def totals(self) -> dict[Certainty, int]:
        """How many units of all sites are proved, woken and open."""
        return {
            "proved": sum(len(site.proved_units) for site in self.sites),
            "woken": sum(len(site.woken_units) for site in self.sites),
            "open": sum(len(site.open_units) for site in self.sites),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as JSON types, in the order of the schema (`deadrelu/proof.schema.json`)."""
        return {
            "schema_version": PROOF_VERSION,
            "tool": asdict(self.tool),
            "model": self.model.to_dict(),
            "data": asdict(self.data),
            "settings": dict(self.settings),
            "box": asdict(self.box),
            "totals": dict(self.totals),
            "sites": [asdict(site) for site in self.sites],
            "seconds": dict(self.seconds),
            "next_command": self.next_command,
        }

    def to_json(self) -> str:
        """Return the proof as JSON text with a final newline."""
        return to_json(self.to_dict())
