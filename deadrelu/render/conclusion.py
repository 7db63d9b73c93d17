"""What a report comes to: one sentence with its confidence, whether that is good news, and the next command."""

from __future__ import annotations

import math
from typing import Literal

from deadrelu.commands import id_glob, scan_command, suggest_command
from deadrelu.render.leaky import nothing_can_die
from deadrelu.report import Finding, Report
from deadrelu.wording import count, exact_percent, percent, ranges

_ALL_UNITS = ("DR002", "DR005")
_LEFT_OUT = {
    "fired": "only whether units fired was measured, and NaN looked for only in the silent ones",
    "rates": "maxima and means were not measured, and NaN looked for only in the silent units",
}
Mood = Literal["good", "doubtful", "bad"]


def mood(report: Report) -> Mood:
    """Bad where the gate failed; good only where real data reached every site and nothing needs a second look."""
    if report.verdict == "fail":
        return "bad"
    clear = report.verdict == "pass" and not report.skipped and report.data.kind != "synthetic"
    quiet = all(finding.severity == "note" for finding in report.findings)
    return "good" if clear and quiet else "doubtful"


def headline(report: Report) -> str:
    """The verdict in a word or two."""
    return {"pass": "PASS", "fail": "FAIL", "nothing measured": "NOTHING MEASURED"}[report.verdict]


def conclusion(report: Report) -> str:
    """What was found and how sure it is, in one plain sentence."""
    summary, parts = report.summary, []
    samples = count(report.data.samples, "synthetic sample" if report.data.kind == "synthetic" else "sample")
    unknown = sum(len(stats.nonfinite_units) for stats in report.sites)
    if report.is_all_leaky:
        parts.append(nothing_can_die(report))
    elif not report.sites:
        parts.append("No activation site ran, so nothing is known of this model")
    elif summary.dead:
        whole = f"{summary.dead:,} of {count(summary.units, 'unit')} ({percent(summary.dead_fraction)})"
        parts.append(f"{whole} never fired on {_reached(report, samples)}")
        parts.extend(_certainty(report))
    elif unknown:
        parts.append(f"No unit was found dead on {samples}")
    else:
        all_units = f"All {summary.units:,} units" if summary.units > 1 else "The one unit"
        parts.append(f"{all_units} fired at least once on {samples}")
    if unknown:
        parts.append(f"{count(unknown, 'unit')} met NaN or infinity and cannot be judged")
    if report.data.kind == "synthetic" and report.sites:
        parts.append("made-up inputs give a hint, not evidence")
    if report.sites and (left_out := _LEFT_OUT.get(str(report.settings.get("stats")))):
        parts.append(left_out)
    if guessed := len(report.sites) - len(report.gated):
        sites = "the one site" if len(report.sites) == 1 else f"{guessed:,} of {count(len(report.sites), 'site')}"
        parts.append(f"which axis holds the units of {sites} is a guess, so no limit applies there")
    if report.leaky and not report.is_all_leaky:
        parts.append(f"{count(len(report.leaky), 'leaky site is', 'leaky sites are')} not measured")
    if report.skipped:
        parts.append(f"{count(summary.skipped, 'site was', 'sites were')} skipped and may hide more")
    return "; ".join(parts) + "."


def which_units(finding: Finding) -> str:
    """The units that are meant, by number; nothing where it is all of them or none."""
    if not finding.units or finding.rule in _ALL_UNITS:
        return ""
    return f"Unit{'' if len(finding.units) == 1 else 's'} {ranges(finding.units)}."


def next_step(report: Report) -> tuple[str, str]:
    """What to do next, as the start of a line, and the command for it on one line."""
    if report.data.kind == "synthetic":
        return "Measure on real samples", scan_command(report, data="DATA")
    if not report.sites and not report.is_all_leaky:
        return "Scan again, with inputs that reach an activation", scan_command(report)
    if report.sites and not report.gated:
        glob = id_glob(report.sites[0].site.id)
        return "Say which axis holds the units", scan_command(report, "--feature-axis", f"{glob}=AXIS")
    if report.summary.dead:
        return "What to do about it", suggest_command(report)
    if not any(
        report.settings.get(name) not in (None, ()) for name in ("max_dead", "max_dead_total", "limits", "baseline")
    ):
        return "Guard this in CI", scan_command(report, "--max-dead", "5%")
    return "Keep the figures of every unit", scan_command(report, "-o", "json=report.json")


def _reached(report: Report, samples: str) -> str:
    """How many samples reached the sites with dead units; `samples` where those were all of the data's."""
    reached = [stats.samples for stats in report.sites if stats.dead]
    least, most = min(reached), max(reached)
    if least >= report.data.samples:
        return samples
    return f"the {'' if least == most else f'{least:,} to '}{count(most, 'sample')} that reached their sites"


def _certainty(report: Report) -> list[str]:
    """What the weakest of the silences proves; of real samples it proves nothing if the data was synthetic."""
    if report.data.kind == "synthetic":
        return []
    confidence = report.settings.get("confidence")
    bound = max(stats.silence_bound for stats in report.sites if stats.dead)
    if not isinstance(confidence, float) or not 0 < bound < 1:
        return []
    # Rounded down, so that the sentence never claims more than the bound does.
    odds = math.floor(1 / bound)
    share = f"1 in {odds:,} fresh samples" if odds > 1 else f"{math.ceil(bound * 100)}% of fresh samples"
    each = "each" if report.summary.dead > 1 else "it"
    return [
        f"at {exact_percent(confidence)} confidence {each} would fire on fewer than {share},"
        " if the samples are independent"
    ]
