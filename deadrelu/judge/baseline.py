"""The baseline: which dead units are known, and the gate "no worse than that".

A site is worse if *more* of its units are dead than the baseline says, by more than the tolerance. The number decides
and not the set, because a model that was trained anew numbers its units anew; the newly dead are named all the same.
Non-finite values (DR003) are never known: no figure beside them can be relied on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy, conclude, parse_fraction
from deadrelu.judge.rules import RULES
from deadrelu.judge.swapped import Gone, swapped
from deadrelu.report import Finding, Report, SiteStats
from deadrelu.wording import count, ranges

_DEAD = ("DR001", "DR002")
_SKIPPED = "DR008"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of one site: how many units it has (None if it was skipped), and by rule those that are known."""

    units: int | None
    rules: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def dead(self) -> tuple[int, ...]:
        """The units that are known to be dead."""
        return next((self.rules[code] for code in _DEAD if code in self.rules), ())


Entries = Mapping[str, Entry]
"""The known sites of one model, by id."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a report stands to its baseline, as ids of sites; `gone` are known, and neither measured nor skipped now.

    `swapped` are known, and have a leaky activation now: which, by id.
    """

    worse: tuple[str, ...]
    better: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    swapped: Mapping[str, str]


def parse_tolerance(text: str) -> int | float:
    """How many more dead units a site may have: a number of units (`2`), or a share of them (`1%`, `0.01`)."""
    if text.strip().isdecimal():
        return int(text)
    try:
        return parse_fraction(text)
    except UsageError as error:
        hint = "write a number of units such as 2, or a share such as 1%"
        raise UsageError(f"--tolerance {text!r} is neither a number of units nor a share", hint=hint) from error


def tolerated(tolerance: int | float, units: int) -> int:
    """How many units that is, of a site with `units`; a share is rounded down."""
    return tolerance if isinstance(tolerance, int) else math.floor(Fraction(repr(tolerance)) * units)


def standing(report: Report, known: Entries) -> Standing:
    """Compare the number of dead units at each site with what is known; tolerance plays no part here."""
    changes = {s.site.id: s.dead - len(known[s.site.id].dead) for s in report.gated if _measured(known, s.site.id)}
    unknown = {stats.site.id for stats in report.sites if stats.nonfinite_units}
    here = {stats.site.id for stats in report.sites} | {skipped.id for skipped in report.skipped}
    lost = [site for site in known if site not in here]
    leaky = swapped([Gone(id=site, units=known[site].units) for site in lost], report.leaky)
    return Standing(
        worse=tuple(site for site, change in changes.items() if change > 0),
        better=tuple(site for site, change in changes.items() if change < 0 and site not in unknown),
        new=tuple(stats.site.id for stats in report.gated if stats.site.id not in changes),
        gone=tuple(site for site in lost if site not in leaky),
        swapped={site: each.op for site, each in leaky.items()},
    )


def gate(report: Report, policy: Policy, known: Entries, tolerance: int | float = 0) -> Report:
    """The judged report with its findings on dead units and skipped sites held against what is known.

    Where the baseline knows a site it takes the place of `max_dead` and `limits`; a site that it does not know is held
    to its limit, and without one to no dead unit at all. `max_dead_total` holds as it is.
    """
    measured = {stats.site.id: stats for stats in report.sites}
    kept = []
    for finding in report.findings:
        if finding.rule == _SKIPPED and _SKIPPED in getattr(known.get(finding.site or ""), "rules", {}):
            kept.append(_as(finding, "note", f"{finding.message} The baseline knows of it."))
        elif finding.rule not in _DEAD or finding.site is None or measured[finding.site].site.is_guessed:
            kept.append(finding)
        elif not _measured(known, finding.site) and finding.rule == "DR001" and policy.limit(finding.site) is None:
            kept.append(_as(finding, "error", f"{finding.message} The baseline does not know this site."))
        elif not _measured(known, finding.site):
            kept.append(finding)
        else:
            kept.extend(_held(finding, measured[finding.site], known[finding.site], tolerance))
    return conclude(report, kept)


def renewed(report: Report, policy: Policy, known: Entries | None, *, force: bool = False) -> Entries:
    """What is known after this report: `known` is None for a model that had no baseline.

    Raises `UsageError` if anything would be allowed that was not before, unless `force`: more dead units at a site, a
    new site with more than its limit, a site that is now skipped. And always where a site met NaN or infinity: its
    dead cannot be counted.
    """
    unknown = [stats.site.id for stats in report.sites if stats.nonfinite_units]
    if unknown:
        raise UsageError(
            f"the baseline is not updated, because {unknown[0]} met NaN or infinity and its dead cannot be counted",
            hint="`deadrelu rules DR003` says what to do",
        )
    now = {stats.site.id: _entry(stats) for stats in report.gated}
    now |= {site.id: Entry(units=None, rules={_SKIPPED: ()}) for site in report.skipped}
    looser = [] if known is None or force else list(_looser(report, policy, known))
    if looser:
        more = f" and {len(looser) - 3:,} more" if len(looser) > 3 else ""
        raise UsageError(
            f"the baseline is not updated, because it would get looser: {'; '.join(looser[:3])}{more}",
            hint="mend the model, or accept this state for good with --update-baseline --force",
        )
    return now


def _held(finding: Finding, stats: SiteStats, entry: Entry, tolerance: int | float) -> Iterator[Finding]:
    """The finding on the dead units of a known site: an error for the newly dead if they are too many, or a note."""
    more = stats.dead - len(entry.dead)
    fresh = tuple(unit for unit in stats.dead_units if unit not in entry.dead)
    old = tuple(unit for unit in stats.dead_units if unit in entry.dead)
    head = f"{stats.dead:,} of {count(stats.site.units, 'unit')} {'is' if stats.dead == 1 else 'are'} dead"
    allowed = tolerated(tolerance, stats.site.units)
    if more > allowed:
        tolerance_said = f", which tolerates {allowed:,} more" if allowed else ""
        message = f"{head}, {more:,} more than in the baseline{tolerance_said}; these are newly dead."
        yield _as(finding, "error", message, fresh)
        if old:
            yield _as(finding, "note", f"{count(len(old), 'unit')} dead in the baseline too.", old)
        return
    compared = f"{more:,} more than" if more > 0 else f"{-more:,} fewer than" if more else "as many as"
    within = ", within the tolerance" if more > 0 else ""
    named = f"; newly dead: {ranges(fresh)}" if fresh else ""
    yield _as(finding, "note", f"{head}, {compared} in the baseline{within}{named}.", stats.dead_units)


def _as(finding: Finding, severity: str, message: str, units: tuple[int, ...] | None = None) -> Finding:
    """The finding with another severity and message."""
    return Finding(
        rule=finding.rule,
        severity="error" if severity == "error" else "note",
        site=finding.site,
        units=finding.units if units is None else units,
        message=message,
        suggestion=RULES[finding.rule].fix,
    )


def _measured(known: Entries, site: str) -> bool:
    """Whether the baseline knows figures of this site: one that was skipped has none."""
    return site in known and known[site].units is not None


def _entry(stats: SiteStats) -> Entry:
    """What is to be known of a measured site."""
    rule = "DR002" if stats.dead == stats.site.units > 0 else "DR001"
    return Entry(units=stats.site.units, rules={rule: stats.dead_units} if stats.dead else {})


def _looser(report: Report, policy: Policy, known: Entries) -> Iterator[str]:
    """What a renewed baseline would allow that this one does not."""
    for stats in report.gated:
        site, dead = stats.site.id, stats.dead
        if _measured(known, site):
            if dead > len(known[site].dead):
                fresh = ranges([unit for unit in stats.dead_units if unit not in known[site].dead])
                yield f"{site} has {dead:,} dead units, not {len(known[site].dead):,} (newly dead: {fresh})"
        elif dead and stats.dead_fraction > (policy.limit(site) or 0.0):
            yield f"{site} is new and has {count(dead, 'dead unit')}"
    for skipped in report.skipped:
        if _SKIPPED not in getattr(known.get(skipped.id), "rules", {}):
            yield f"{skipped.id} is skipped now"
