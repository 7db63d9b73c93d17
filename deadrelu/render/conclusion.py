"""The conclusion of a report in words: the verdict and its reason, a sentence with the figures, the next command."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deadrelu.judge.definitions import condition
from deadrelu.judge.policy import Policy
from deadrelu.judge.verdict import Decision, FailedRule, explain_verdict
from deadrelu.report import Finding, Report
from deadrelu.report.commands import id_glob, scan_command, suggest_command
from deadrelu.text.wording import count, exact_percent, percent, ranges

_ALL_UNITS = ("DR002", "DR005")
_LIMITS = ("max_dead", "max_dead_total", "max_saturated", "limits", "baseline")
_LEFT_OUT = {
    "fired": "only whether each unit fired was measured, and only silent units were checked for NaN",
    "rates": "maxima and means were not measured, and only silent units were checked for NaN",
}
Mood = Literal["good", "doubtful", "bad"]


@dataclass(frozen=True)
class Step:
    """What to do next, and its command on one line: for the shell, or in Python for a model in memory."""

    purpose: str
    command: str | None = None


def mood(report: Report) -> Mood:
    """Return "bad" if the gate failed, "good" only if real data reached every site and there is no warning."""
    if report.verdict == "fail":
        return "bad"
    clear = report.verdict == "pass" and not report.skipped and report.data.kind != "synthetic"
    clear &= not report.summary.dead or explain_verdict(report).yardstick in ("baseline", "limits")
    quiet = all(finding.severity == "note" for finding in report.findings)
    return "good" if clear and quiet else "doubtful"


def headline(report: Report) -> str:
    """Return the verdict in capitals."""
    return {"pass": "PASS", "fail": "FAIL", "nothing measured": "NOTHING MEASURED"}[report.verdict]


def verdict_reason(report: Report) -> str:
    """Return what decided the verdict, without a full stop: it follows the headline."""
    if not report.gated:
        return "the feature axis of every site is a guess" if report.sites else "no activation site ran"
    by = explain_verdict(report)
    if by.failed:
        return "; ".join(_why_failed(failed, by, len(report.sites)) for failed in by.failed)
    reason = _why_passed(report, by)
    if by.max_saturated is None:
        return reason
    kept = f"no site has more saturated units than the limit of {exact_percent(by.max_saturated)} allows"
    return f"{kept}; {reason}" if by.yardstick == "none" else f"{reason}; {kept}"


def _why_passed(report: Report, by: Decision) -> str:
    """Say what the dead units were compared to."""
    match by.yardstick:
        case "baseline":
            return {
                "same": f"no more dead units than in {by.baseline}",
                "better": f"fewer dead units than in {by.baseline}",
                "tolerated": f"within the tolerance of {by.baseline}",
            }[by.standing]
        case "limits":
            return _within_limits(by, len(report.gated))
        case "not judged":
            return "dead units are not judged: DR001 is left out by --select or --ignore"
    limit = "no limit was given" if by.max_saturated is None else "no limit on dead units was given"
    if not any(stats.judged for stats in report.sites):
        return f"no unit is {_dead_by(by)}; {limit}"
    only = " (only a wholly dead site fails)" if by.dead_sites_fail else ""
    return f"{limit}{only}; set one with --max-dead"


def sentence(clause: str) -> str:
    """Return a clause as a sentence."""
    return f"{clause[0].upper()}{clause[1:]}."


def _why_failed(failed: FailedRule, by: Decision, sites: int) -> str:
    """Say which rule failed the gate, at how many of the sites."""
    some = f"{failed.sites:,} of {count(sites, 'site')}" if sites > 1 else "the one site"
    has = "has" if failed.sites == 1 else "have"
    match failed.rule:
        case "DR001" if not failed.sites:
            return f"more than {exact_percent(by.total or 0)} of all units are {_dead_by(by)}"
        case "DR001":
            own = "its limit allows" if failed.sites == 1 else "their limits allow"
            limit = own if failed.limit is None else f"the limit of {exact_percent(failed.limit)} allows"
            return f"{some} {has} more {_dead_units(by)} than {f'{by.baseline} allows' if by.baseline else limit}"
        case "DR002":
            return f"{some} {'is' if failed.sites == 1 else 'are'} wholly {_dead_by(by)}"
        case "DR003":
            return f"{some} met NaN or infinity" if failed.sites else "weights are NaN or infinite"
        case "DR007":
            return f"{some} {has} more saturated units than the limit of {exact_percent(by.max_saturated or 0)} allows"
        case "DR008":
            return f"{count(failed.sites, 'site was', 'sites were')} skipped, which fails with --strict"
        case "DR011":
            return f"the feature axis of {count(failed.sites, 'site')} is a guess, which fails with --strict"
    return f"{failed.rule} failed"


def _within_limits(by: Decision, sites: int) -> str:
    """Name the limits that were kept."""
    parts = []
    if by.unlimited < sites:
        limit = "its limit" if by.limit is None else f"the limit of {exact_percent(by.limit)}"
        parts.append(f"no site has more {_dead_units(by)} than {limit} allows")
    if by.total is not None:
        parts.append(f"no more than {exact_percent(by.total)} of all units are {_dead_by(by)}")
    elif by.unlimited:
        parts.append(f"{count(by.unlimited, 'site has', 'sites have')} no limit")
    return "; ".join(parts)


def _dead_by(by: Decision) -> str:
    """Say "dead", and by which definition."""
    return f"dead by {by.definition}" if by.definition else "dead"


def _dead_units(by: Decision) -> str:
    """Say "dead units", and by which definition."""
    return f"units dead by {by.definition}" if by.definition else "dead units"


def conclusion(report: Report) -> str:
    """Return what was found and how certain it is, in one sentence."""
    summary, parts = report.summary, []
    samples = count(report.data.samples, "synthetic sample" if report.data.kind == "synthetic" else "sample")
    unknown = sum(len(stats.nonfinite_units) for stats in report.sites)
    stuck = sum(len(stats.stuck_units) for stats in report.sites)
    if not report.sites:
        parts.append("No activation site ran, so nothing is known about this model")
    elif summary.dead:
        whole = f"{summary.dead:,} of {count(summary.units, 'unit')} ({percent(summary.dead_fraction)})"
        parts.append(f"{whole} never fired on {_reached(report, samples)}")
        parts.extend(_certainty(report))
    elif unknown or stuck:
        parts.append(f"No unit was found dead on {samples}")
    else:
        all_units = f"All {summary.units:,} units" if summary.units > 1 else "The one unit"
        parts.append(f"{all_units} fired at least once on {samples}")
    parts.extend(_born(report))
    if says := _by_definition(report):
        parts.append(says)
    parts.extend(_stuck(report))
    if unknown:
        parts.append(f"{count(unknown, 'unit')} met NaN or infinity and cannot be judged")
    if report.data.kind == "synthetic" and report.sites:
        parts.append("synthetic inputs give a hint, not evidence")
    if report.sites and (left_out := _LEFT_OUT.get(str(report.settings.get("stats")))):
        parts.append(left_out)
    if guessed := len(report.sites) - len(report.gated):
        sites = "the one site" if len(report.sites) == 1 else f"{guessed:,} of {count(len(report.sites), 'site')}"
        parts.append(f"the feature axis of {sites} is a guess, so no limit applies there")
    if report.skipped:
        parts.append(f"{count(summary.skipped, 'site was', 'sites were')} skipped and may hide more")
    return "; ".join(parts) + "."


def _stuck(report: Report) -> Iterator[str]:
    """Say how many units only ever leak, and how many others are saturated."""
    units = report.summary.units
    leaking = sum(len(stats.leaking_units) for stats in report.sites)
    saturated = sum(len({*stats.saturated_units} - {*stats.leaking_units}) for stats in report.sites)
    if leaking:
        part = f"{leaking:,} of {count(units, 'unit')} ({percent(leaking / units)})"
        verb, them = ("leaks", "it") if leaking == 1 else ("leak", "them")
        yield f"{part} only ever {verb}: no gradient but that of the leak passes through {them}"
    if saturated:
        part = f"{saturated:,} of {count(units, 'unit')} ({percent(saturated / units)})"
        verb, them = ("is", "it") if saturated == 1 else ("are", "them")
        yield f"{part} {verb} saturated: hardly any gradient passes through {them}"


def _born(report: Report) -> Iterator[str]:
    """Say how many dead units were dead in the initial model already."""
    known = [(stats.dead, len(stats.born_dead_units)) for stats in report.sites if stats.born_dead_units is not None]
    dead, born = sum(dead for dead, _ in known), sum(born for _, born in known)
    if dead:
        were = "was" if born == 1 else "were"
        initial = report.settings.get("initial")
        yield f"{born:,} of the dead units {were} dead in {initial} already, and {dead - born:,} died since"


def _by_definition(report: Report) -> str:
    """Say how many units are dead by the definition of the report; nothing without one."""
    policy, units = Policy.from_settings(report.settings), report.summary.units
    if policy.definition is None or not report.sites:
        return ""
    dead = sum(stats.judged for stats in report.sites)
    says = condition(policy.definition, policy.tau)
    part = f"{dead:,} of {count(units, 'unit')} ({percent(dead / units)})"
    return f"{part} {'is' if dead == 1 else 'are'} dead by {policy.definition}, {says}"


def which_units(finding: Finding) -> str:
    """Return the units of a finding by number; nothing if it means all of them or none."""
    if not finding.units or finding.rule in _ALL_UNITS:
        return ""
    return f"Unit{'' if len(finding.units) == 1 else 's'} {ranges(finding.units)}."


def next_step(report: Report) -> Step:
    """Return what to do next."""
    if report.data.kind == "synthetic":
        return Step("Measure on real samples: add --data FILE, a folder of images, or my/data.py:loader")
    if not report.sites:
        return Step("Scan again with inputs that reach an activation")
    if not report.gated:
        site = report.sites[0].site
        axis = f"--feature-axis '{id_glob(site.id)}=AXIS'"
        return Step(f"Say which axis holds the units: add {axis}, or =none for one unit")
    live = report.model.path is None
    if report.summary.dead:
        command = suggest_command(report) or ("deadrelu.suggest(report)" if live else None)
        purpose = "What to do about it"
        return Step(purpose if command else f"{purpose}: pass the JSON report to deadrelu suggest", command)
    if any(stats.leaking_units for stats in report.sites):
        return Step("Fine-tune the model, and scan what comes of it", scan_command(report))
    if all(report.settings.get(name) in (None, ()) for name in _LIMITS):
        strict = () if report.skipped or len(report.gated) < len(report.sites) else ("--strict",)
        command = scan_command(report, "--max-dead=5%", *strict)
        command = command or ('deadrelu.check(model, data, max_dead="5%")' if live else None)
        return Step("Guard this in CI" if command else "Guard this in CI: add --max-dead 5%", command)
    command = scan_command(report, "-o=json=report.json") or ("report.to_json()" if live else None)
    return Step("Keep the figures of every unit" if command else "Keep the figures of every unit as JSON", command)


def _reached(report: Report, samples: str) -> str:
    """Say how many samples reached the sites with dead units: `samples` if all did."""
    reached = [stats.samples for stats in report.sites if stats.dead]
    least, most = min(reached), max(reached)
    if least >= report.data.samples:
        return samples
    return f"the {'' if least == most else f'{least:,} to '}{count(most, 'sample')} that reached their sites"


def _certainty(report: Report) -> list[str]:
    """Say what the weakest silence proves; synthetic data proves nothing about real samples."""
    if report.data.kind == "synthetic":
        return []
    confidence = report.settings.get("confidence")
    bound = max(stats.silence_bound for stats in report.sites if stats.dead)
    if not isinstance(confidence, float) or not 0 < bound < 1:
        return []
    # Rounded down: the sentence must not claim more than the bound.
    odds = math.floor(1 / bound)
    share = f"1 in {odds:,} fresh samples" if odds > 1 else f"{math.ceil(bound * 100)}% of fresh samples"
    each = "each" if report.summary.dead > 1 else "it"
    return [
        f"at {exact_percent(confidence)} confidence {each} would fire on fewer than {share},"
        " if the samples are independent"
    ]
