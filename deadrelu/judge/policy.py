"""The policy, and the verdict that it gives: which findings count, and whether the gate fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from deadrelu.errors import ExitCode, UsageError
from deadrelu.judge import findings as find
from deadrelu.judge.rules import RULES
from deadrelu.judge.statistics import rare_units, silence_bound
from deadrelu.report import Finding, Report, Setting, Severity, SiteStats, Verdict

_SETTINGS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("max_dead", "max_dead_total"), (int, float, type(None))),
    **dict.fromkeys(("rare_below", "confidence"), (int, float)),
    **dict.fromkeys(("select", "ignore", "limits"), (tuple,)),
    "strict": (bool,),
}
"""The types of a policy's fields where a report holds them."""

_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the user tolerates. Fractions are in 0..1; None is no limit.

    `max_dead` holds for each site, unless one of the `limits` (glob over site ids, share) matches it: the last that
    does. `max_dead_total` holds for all units together. An empty `select` is every rule. An `ignore` is a code, or
    `CODE@GLOB: REASON` (glob and reason may be left out). Raises `UsageError` for a fraction out of range and for an
    unknown code.
    """

    max_dead: float | None = None
    max_dead_total: float | None = None
    rare_below: float = 0.01
    confidence: float = 0.95
    strict: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be judged by."""
        for name in ("max_dead", "max_dead_total", "rare_below"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{_flag(name)} is {value}, outside 0..1", hint=f"for example {_flag(name)} 5%")
        if not 0 < self.confidence < 1:
            raise UsageError(
                f"--confidence is {self.confidence}, not between 0 and 1", hint="for example --confidence 95%"
            )
        for glob, share in self.limits:
            if not 0 <= share <= 1:
                raise UsageError(f"--limits {glob}={share} is outside 0..1", hint=f"for example --limits '{glob}=5%'")
        named = [("select", code) for code in self.select] + [("ignore", _parts(text)[0]) for text in self.ignore]
        for name, code in named:
            if code not in RULES:
                raise UsageError(f"{_flag(name)} names {code!r}, which is no rule", hint=f"the rules: {_codes()}")

    def counts(self, code: str, site: str | None = None) -> bool:
        """Whether the findings of this rule at this site (None: at no one site) are reported."""
        return (not self.select or code in self.select) and not any(
            code == ignored and (glob is None or (site is not None and fnmatchcase(site, glob)))
            for ignored, glob, _ in map(_parts, self.ignore)
        )

    def limit(self, site: str) -> float | None:
        """The largest share of dead units that this site may have, in 0..1; None is no limit."""
        return next((share for glob, share in reversed(self.limits) if fnmatchcase(site, glob)), self.max_dead)

    def to_settings(self) -> dict[str, Setting]:
        """The policy as a report's settings hold it."""
        return {**asdict(self), "limits": tuple(f"{glob}={share!r}" for glob, share in self.limits)}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Setting]) -> Policy:
        """The policy that a report was judged by. Raises `UsageError` where a setting is none of a policy."""
        found: dict[str, Any] = {f.name: settings[f.name] for f in fields(cls) if f.name in settings}
        for name, value in found.items():
            if type(value) not in _SETTINGS[name]:
                raise UsageError(
                    f"the setting {name!r} of the report is {value!r}",
                    hint="write the report anew with `deadrelu scan`",
                )
        if "limits" in found:
            found["limits"] = tuple(parse_limit(text) for text in found["limits"])
        return cls(**found)


def parse_fraction(text: str) -> float:
    """A fraction in 0..1, from a percentage (`5%`) or a decimal (`0.05`).

    A bare `1` is refused: it could mean 1% or all. Raises `UsageError` with the reason.
    """
    number, is_percentage = text.strip(), text.strip().endswith("%")
    try:
        value = Decimal(number.removesuffix("%").strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise UsageError(f"{text!r} is no fraction", hint="write a percentage such as 5%, or a decimal such as 0.05")
    if number == "1":
        raise UsageError("'1' may mean 1% or 100%", hint="write 1% or 100%")
    if is_percentage:
        value /= 100
    elif 1 < value <= 100:
        raise UsageError(f"{text!r} is more than 1, the whole", hint=f"for a percentage write {number}%")
    if not 0 <= value <= 1:
        raise UsageError(f"{text!r} is outside 0% to 100%", hint="write a percentage such as 5%")
    return float(value)


def parse_limit(text: str) -> tuple[str, float]:
    """A glob over site ids and a fraction in 0..1, from `GLOB=SHARE`. Raises `UsageError`."""
    glob, equals, share = text.rpartition("=")
    if not equals or not glob:
        raise UsageError(f"--limits {text!r} is not of the form SITE=SHARE", hint="for example --limits 'head.*=20%'")
    return glob, parse_fraction(share)


def judge(report: Report, policy: Policy) -> Report:
    """The report with the policy's findings, its verdict, and its settings; judging twice changes nothing.

    What is rare and how sure a silence is follow the policy too, so that a stored report can be judged anew. Findings
    stand errors first, then by site; what concerns the whole scan comes before any site, and DR003 before all.
    """
    sites = tuple(_restate(stats, policy) for stats in report.sites)
    report = replace(report, sites=sites, settings={**report.settings, **policy.to_settings()})
    found = [finding for finding in _find(report, policy) if policy.counts(finding.rule, finding.site)]
    return conclude(report, found)


def conclude(report: Report, found: Iterable[Finding]) -> Report:
    """The report with these findings in their order, and with the verdict that they give.

    Where the units of every site are a guess nothing was measured that could pass. Where every activation leaks, there
    was nothing to measure, and that passes.
    """
    order = {stats.site.id: place for place, stats in enumerate(report.sites)}

    def place(finding: Finding) -> tuple[int, bool, int]:
        at = -1 if finding.site is None else order.get(finding.site, len(order))
        return _RANK[finding.severity], finding.rule != "DR003", at

    findings = tuple(sorted(found, key=place))
    verdict: Verdict = "pass" if report.gated or report.is_all_leaky else "nothing measured"
    if (report.sites or report.is_all_leaky) and any(finding.severity == "error" for finding in findings):
        verdict = "fail"
    return replace(report, findings=findings, verdict=verdict)


def exit_code(report: Report, *, exit_zero: bool = False) -> ExitCode:
    """The exit code of a judged report. `exit_zero` hides a failed gate, and nothing else."""
    if report.verdict == "nothing measured":
        return ExitCode.NOTHING_MEASURED
    return ExitCode.GATE_FAILED if report.verdict == "fail" and not exit_zero else ExitCode.OK


def _find(report: Report, policy: Policy) -> Iterator[Finding]:
    """Every finding, rule by rule."""
    yield from find.dead_units(report, policy.limit, policy.max_dead_total)
    yield from find.dead_sites(report)
    yield from find.nonfinite(report)
    yield from find.rare_units(report, policy.rare_below)
    yield from find.always_on(report)
    yield from find.too_few_samples(report, policy.rare_below, policy.confidence)
    yield from find.skipped(report, policy.strict)
    yield from find.synthetic(report)
    yield from find.stopped_early(report, policy.confidence, policy.rare_below)
    yield from find.guessed(report, policy.strict)


def _restate(stats: SiteStats, policy: Policy) -> SiteStats:
    """The same measurement in the policy's terms."""
    return replace(
        stats,
        rare_units=rare_units(stats.firing_rate, stats.nonfinite_units, policy.rare_below),
        silence_bound=silence_bound(stats.samples, policy.confidence),
    )


def _parts(ignored: str) -> tuple[str, str | None, str]:
    """Code, glob and reason of an `ignore`: `DR004@head.*: rare by design`. An id may hold a colon, but no blank."""
    told, _, reason = ignored.partition(": ")
    code, at, glob = told.partition("@")
    return code.strip(), glob if at else None, reason


def _flag(name: str) -> str:
    """A field as the flag that sets it."""
    return "--" + name.replace("_", "-")


def _codes() -> str:
    """All codes, for an error's hint."""
    return ", ".join(RULES)
