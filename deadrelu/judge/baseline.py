"""The baseline: the known dead units of a model, and the gate "no more than that".

A site is worse if it has more dead units than the baseline, by more than the tolerance. The number counts and not the
set, because training again numbers the units differently; the newly dead units are listed all the same. Non-finite
values (DR003) are never accepted by a baseline: no figure beside them can be relied on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from deadrelu.errors import UsageError
from deadrelu.judge.judgement import conclude
from deadrelu.judge.matching import Identity, identities, match
from deadrelu.judge.policy import Policy
from deadrelu.judge.rules import RULES
from deadrelu.judge.shares import parse_fraction
from deadrelu.report import Finding, Report, Severity, Site, SiteStats
from deadrelu.text.wording import count, ranges

_DEAD = ("DR001", "DR002")
_SKIPPED = "DR008"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The known state of one site: how many units it has (None if it was skipped), and the known units of each rule.

    `op` and `after` tell it from another site with the same id; `op` is None in files of earlier versions.
    """

    units: int | None
    rules: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    op: str | None = None
    after: str | None = None

    @property
    def dead(self) -> tuple[int, ...]:
        """The units known to be dead."""
        return next((self.rules[code] for code in _DEAD if code in self.rules), ())


Entries = Mapping[str, Entry]
"""The known sites of a model, by id."""


@dataclass(frozen=True, kw_only=True)
class BaselineChanges:
    """What changed since the baseline, as ids of sites. `gone` sites are neither measured nor skipped now.

    `moved` maps each new id to the id in the baseline; if only this version names the site differently, it is
    `renumbered`. `swapped` maps the id in the baseline to the activation that was put in its place.
    """

    worse: tuple[str, ...]
    better: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    moved: Mapping[str, str] = field(default_factory=dict)
    renumbered: tuple[str, ...] = ()
    swapped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MatchedEntries:
    """The baseline's entry for each site of a report, by its id now; `was` has the id in the baseline.

    `gone` are the ids without a site. `unlike` are the entries that share only the id with a site: the units or the
    activation differ.
    """

    entries: Entries
    was: Mapping[str, str]
    gone: tuple[str, ...]
    unlike: Entries


def parse_tolerance(text: str) -> int | float:
    """Read how many more dead units a site may have: a number of units (`2`), or a share of them (`1%`, `0.01`)."""
    if text.strip().isdecimal():
        return int(text)
    try:
        return parse_fraction(text)
    except UsageError as error:
        hint = "write a number of units such as 2, or a share such as 1%"
        raise UsageError(f"--tolerance {text!r} is neither a number of units nor a share", hint=hint) from error


def allowance(tolerance: int | float, units: int) -> int:
    """Return the tolerance in units for a site with `units`; a share is rounded down."""
    return tolerance if isinstance(tolerance, int) else math.floor(Fraction(repr(tolerance)) * units)


def match_entries(report: Report, known: Entries) -> MatchedEntries:
    """Find each site of the report in the baseline, even if its id has changed."""
    here = identities(report)
    names = list(known)
    places = match([Identity(id=id, op=e.op, after=e.after, units=e.units) for id, e in known.items()], here)
    was = {id: names[place] for id, place in places.items()}
    gone = known.keys() - was.values()
    return MatchedEntries(
        entries={id: known[old] for id, old in was.items()},
        was=was,
        gone=tuple(id for id in names if id in gone),
        unlike={
            identity.id: known[identity.id] for identity in here if identity.units is not None and identity.id in gone
        },
    )


def compare_to_baseline(report: Report, known: Entries) -> BaselineChanges:
    """Compare the number of dead units at each site with the baseline, without any tolerance."""
    found = match_entries(report, known)
    entries, renamed = found.entries, {id: old for id, old in found.was.items() if old != id}
    changes = {s.site.id: s.dead - len(entries[s.site.id].dead) for s in report.gated if _measured(entries, s.site.id)}
    unknown = {stats.site.id for stats in report.sites if stats.nonfinite_units}
    renumbered = tuple(now.id for now in identities(report) if now.id in renamed and now.alias == renamed[now.id])
    ops = {now.id: now.op for now in identities(report)}
    return BaselineChanges(
        worse=tuple(site for site, change in changes.items() if change > 0),
        better=tuple(site for site, change in changes.items() if change < 0 and site not in unknown),
        new=tuple(stats.site.id for stats in report.gated if stats.site.id not in changes),
        gone=found.gone,
        moved={id: old for id, old in renamed.items() if id not in renumbered},
        renumbered=renumbered,
        swapped={old: op for id, old in found.was.items() if (op := ops[id]) and known[old].op not in (None, op)},
    )


def is_same_model(report: Report, known: Entries) -> bool:
    """Whether a baseline recorded for another file fits this model: the model has most of its sites."""
    return bool(known) and 2 * len(match_entries(report, known).was) > len(known)


def gate(report: Report, policy: Policy, known: Entries, tolerance: int | float = 0) -> Report:
    """Return a judged report with its findings on dead units and skipped sites compared to the baseline.

    For a site in the baseline this replaces `max_dead` and `limits`. Any other site is held to its limit, or to no dead
    unit at all if it has none. `max_dead_total` applies as before.
    """
    measured = {stats.site.id: stats for stats in report.sites}
    found, moved = match_entries(report, known), compare_to_baseline(report, known).moved
    kept = []
    for finding in report.findings:
        if finding.rule == _SKIPPED and _SKIPPED in getattr(found.entries.get(finding.site or ""), "rules", {}):
            kept.append(_as(finding, "note", f"{finding.message} It is skipped in the baseline too."))
        elif finding.rule not in _DEAD or finding.site is None or measured[finding.site].site.is_guessed:
            kept.append(finding)
        elif not _measured(found.entries, finding.site):
            site = measured[finding.site].site
            is_free = finding.rule == "DR001" and policy.limit(site) is None
            why = _unlike(site, found.unlike.get(site.id))
            kept.append(_as(finding, "error" if is_free else finding.severity, f"{finding.message} {why}"))
        else:
            entry, was = found.entries[finding.site], moved.get(finding.site)
            kept.extend(_held(finding, measured[finding.site], entry, tolerance, was))
    return conclude(report, kept)


def renew_entries(report: Report, policy: Policy, known: Entries | None, *, force: bool = False) -> Entries:
    """Return the entries for this report; `known` is None for a model without a baseline.

    Raises `UsageError` if the new baseline would allow more than before, unless `force`: more dead units at a site, a
    new site above its limit, a site that is now skipped. Always raises it if a site met NaN or infinity: its dead units
    cannot be counted.
    """
    unknown = [stats.site.id for stats in report.sites if stats.nonfinite_units]
    if unknown:
        raise UsageError(
            f"the baseline is not updated: {unknown[0]} met NaN or infinity, so its dead units cannot be counted",
            hint="`deadrelu rules DR003` says what to do",
        )
    now = {stats.site.id: _entry(stats) for stats in report.gated}
    now |= {site.id: Entry(units=None, rules={_SKIPPED: ()}, op=site.op) for site in report.skipped}
    looser = [] if known is None or force else list(_looser(report, policy, known))
    if looser:
        more = f" and {len(looser) - 3:,} more" if len(looser) > 3 else ""
        raise UsageError(
            f"the baseline is not updated, because it would allow more: {'; '.join(looser[:3])}{more}",
            hint="fix the model, or accept this state with --update-baseline --force",
        )
    return now


def _unlike(site: Site, entry: Entry | None) -> str:
    """Say why a site is not compared to the baseline; `entry` is the baseline's entry under its id, if any."""
    if entry is None or entry.units is None:
        return "This site is not in the baseline."
    if entry.units != site.units:
        return f"In the baseline, this id has {count(entry.units, 'unit')}: it is another layer, and not compared."
    return f"In the baseline, this id is a {entry.op}: it is another activation, and not compared."


def _held(
    finding: Finding, stats: SiteStats, entry: Entry, tolerance: int | float, was: str | None
) -> Iterator[Finding]:
    """Yield an error for the newly dead units of a known site if they are too many, or else a note.

    `was` is its id in the baseline, if it has moved.
    """
    more = stats.dead - len(entry.dead)
    fresh = tuple(unit for unit in stats.dead_units if unit not in entry.dead)
    old = tuple(unit for unit in stats.dead_units if unit in entry.dead)
    head = f"{stats.dead:,} of {count(stats.site.units, 'unit')} {'is' if stats.dead == 1 else 'are'} dead"
    allowed = allowance(tolerance, stats.site.units)
    place = f" (there named {was})" if was else ""
    if more > allowed:
        tolerance_said = f", which tolerates {allowed:,} more" if allowed else ""
        message = f"{head}, {more:,} more than in the baseline{place}{tolerance_said}; these are newly dead."
        yield _as(finding, "error", message, fresh)
        if old:
            yield _as(finding, "note", f"{count(len(old), 'unit was', 'units were')} dead in the baseline too.", old)
        return
    compared = f"{more:,} more than" if more > 0 else f"{-more:,} fewer than" if more else "as many as"
    within = ", within the tolerance" if more > 0 else ""
    named = f"; newly dead: {ranges(fresh)}" if fresh else ""
    yield _as(finding, "note", f"{head}, {compared} in the baseline{place}{within}{named}.", stats.dead_units)


def _as(finding: Finding, severity: Severity, message: str, units: tuple[int, ...] | None = None) -> Finding:
    """The finding with another severity and message."""
    return Finding(
        rule=finding.rule,
        severity=severity,
        site=finding.site,
        units=finding.units if units is None else units,
        message=message,
        suggestion=RULES[finding.rule].fix,
    )


def _measured(known: Entries, site: str) -> bool:
    """Whether the baseline has figures for this site: a skipped site has none."""
    return site in known and known[site].units is not None


def _entry(stats: SiteStats) -> Entry:
    """The entry of a measured site."""
    rule, site = "DR002" if stats.dead == stats.site.units > 0 else "DR001", stats.site
    return Entry(units=site.units, rules={rule: stats.dead_units} if stats.dead else {}, op=site.op, after=site.after)


def _looser(report: Report, policy: Policy, known: Entries) -> Iterator[str]:
    """Yield what the new baseline would allow and the old one does not."""
    known = match_entries(report, known).entries
    for stats in report.gated:
        site, dead = stats.site.id, stats.dead
        if _measured(known, site):
            if dead > len(known[site].dead):
                fresh = ranges([unit for unit in stats.dead_units if unit not in known[site].dead])
                yield f"{site} has {count(dead, 'dead unit')}, not {len(known[site].dead):,} (newly dead: {fresh})"
        elif dead and stats.dead_fraction > (policy.limit(stats.site) or 0.0):
            yield f"{site} is new and has {count(dead, 'dead unit')}"
    for skipped in report.skipped:
        if _SKIPPED not in getattr(known.get(skipped.id), "rules", {}):
            yield f"{skipped.id} is skipped now"
