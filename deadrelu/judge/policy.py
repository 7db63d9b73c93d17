"""The policy: which rules and sites count, and how much may be dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deadrelu.errors import UsageError
from deadrelu.judge.definitions import Definition, read_definition
from deadrelu.judge.globs import Named, Selector, matches
from deadrelu.judge.rules import find_rule
from deadrelu.judge.shares import (
    Field,
    Limits,
    Share,
    parse_fraction,
    read_confidence,
    read_limit,
    read_limits,
    read_share,
)
from deadrelu.report import Setting
from deadrelu.report.serialisation import without_none
from deadrelu.text.wording import exact_percent

_SETTINGS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("max_dead", "max_dead_total", "max_saturated"), (int, float, type(None))),
    **dict.fromkeys(("rare_below", "confidence"), (int, float)),
    **dict.fromkeys(("select", "ignore", "limits"), (tuple,)),
    "strict": (bool,),
    "definition": (str, type(None)),
    "tau": (int, float, type(None)),
}
"""The types of a policy's fields in the settings of a report."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the gate tolerates. Shares are `0.05`, `"5%"` or a `Fraction`, stored as floats in 0..1; None: unlimited.

    `max_dead` applies to each site, unless one of the `limits` (`{"head.*": "20%"}`, or pairs of a glob over site ids
    and a share) matches it; the last match wins. `max_dead_total` applies to all units together, `max_saturated` to the
    saturated units of each site. An empty `select` is every rule. An `ignore` is a rule or `RULE@GLOB: REASON`, where
    glob and reason are optional. A rule is given by code or name, and stored by code. With a `definition` ("redo",
    "nature", "apoz" or "grama") the limits on dead units count those that are dead by it, at its threshold `tau` or the
    usual one. Raises `UsageError` for a share or threshold out of range, and for an unknown rule or definition.
    """

    max_dead: Field[Share | None, float | None] = Field(None, read_limit)
    max_dead_total: Field[Share | None, float | None] = Field(None, read_limit)
    max_saturated: Field[Share | None, float | None] = Field(None, read_limit)
    rare_below: Field[Share, float] = Field(0.01, read_share)
    confidence: Field[Share, float] = Field(0.95, read_confidence)
    strict: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: Field[Limits, tuple[tuple[str, float], ...]] = Field((), read_limits)
    definition: Definition | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        """Replace the names of rules by their codes, and find the threshold. Raises `UsageError` for an unknown one."""
        definition, tau = read_definition(self.definition, self.tau)
        object.__setattr__(self, "definition", definition)
        object.__setattr__(self, "tau", tau)
        object.__setattr__(self, "select", tuple(_coded("select", text) for text in self.select))
        object.__setattr__(self, "ignore", tuple(_coded("ignore", text) for text in self.ignore))

    def counts(self, code: str, site: Named | str | None = None) -> bool:
        """Return whether findings of this rule are reported: at this site or, without one, in the whole scan."""
        return (not self.select or code in self.select) and not any(
            code == ignored and (glob is None or (site is not None and matches(glob, site)))
            for ignored, glob, _ in map(_parts, self.ignore)
        )

    def limit(self, site: Named | str) -> float | None:
        """Return the largest share of dead units that this site may have, in 0..1; None: unlimited."""
        return next((share for glob, share in reversed(self.limits) if matches(glob, site)), self.max_dead)

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """The globs over site ids, with the way they were written."""
        ignored = ((code, glob) for code, glob, _ in map(_parts, self.ignore))
        return (
            *(Selector(glob=glob, written=f"--limits {glob}={exact_percent(share)}") for glob, share in self.limits),
            *(Selector(glob=glob, written=f"--ignore {code}@{glob}") for code, glob in ignored if glob is not None),
        )

    def to_settings(self) -> dict[str, Setting]:
        """Return the policy as settings of a report, without a definition if there is none."""
        settings = {**asdict(self), "limits": tuple(f"{glob}={share!r}" for glob, share in self.limits)}
        return without_none(settings, "definition", "tau")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Setting]) -> Policy:
        """Return the policy that a report was judged by. Raises `UsageError` for a setting of the wrong type."""
        found: dict[str, Any] = {f.name: settings[f.name] for f in fields(cls) if f.name in settings}
        for name, value in found.items():
            if type(value) not in _SETTINGS[name]:
                raise UsageError(
                    f"the setting {name!r} of the report is {value!r}",
                    hint="write the report again with `deadrelu scan`",
                )
        if "limits" in found:
            found["limits"] = tuple(parse_limit(text) for text in found["limits"])
        return cls(**found)


def parse_limit(text: str) -> tuple[str, float]:
    """Read `GLOB=SHARE` as a glob over site ids and a fraction in 0..1. Raises `UsageError`."""
    glob, equals, share = text.rpartition("=")
    if not equals or not glob:
        raise UsageError(f"--limits {text!r} is not of the form SITE=SHARE", hint="for example --limits 'head.*=20%'")
    return glob, parse_fraction(share)


def policy_of(
    policy: Policy | None,
    *,
    max_dead: Share | None = None,
    max_dead_total: Share | None = None,
    max_saturated: Share | None = None,
    limits: Limits = (),
    strict: bool = False,
    definition: Definition | None = None,
    tau: float | None = None,
) -> Policy:
    """Return `policy`, or one made of the limits. Raises `UsageError` if both were given."""
    own: dict[str, Any] = {
        "max_dead": max_dead,
        "max_dead_total": max_dead_total,
        "max_saturated": max_saturated,
        "limits": read_limits("limits", limits),
        "strict": strict,
        "definition": definition,
        "tau": tau,
    }
    if policy is None:
        return Policy(**own)
    if given := [name for name, value in own.items() if value not in (None, ()) and value is not False]:
        raise UsageError(
            f"policy and {given[0]} were both given", hint=f"write policy=Policy({given[0]}=…), or leave policy out"
        )
    return policy


def _parts(ignored: str) -> tuple[str, str | None, str]:
    """Split an `ignore` such as `DR004@head.*: rare by design` into code, glob and reason. Ids hold no space."""
    rule, _, reason = ignored.partition(": ")
    code, at, glob = rule.partition("@")
    return code.strip(), glob if at else None, reason


def _coded(name: str, text: str) -> str:
    """Return an entry of `select` or `ignore` with the name of its rule replaced by the code."""
    rule = text if name == "select" else _parts(text)[0]
    try:
        return text.replace(rule, find_rule(rule).code, 1)
    except UsageError as error:
        raise UsageError(f"{_flag(name)}: {error.message}", hint=error.hint) from error


def _flag(name: str) -> str:
    """Return the flag that sets a field."""
    return "--" + name.replace("_", "-")
