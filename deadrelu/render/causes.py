"""The causes of dead units in words: the main one of each sick site, with the figures of one unit that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deadrelu.report import Report, SiteStats
from deadrelu.report.causes import UnitCause
from deadrelu.text.wording import count, number, ranges

MOST_SITES = 12
"""So many sites have their main cause named in a table."""


def causes_in_words(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the id of each sick site whose causes are known, and its main cause in a sentence or two."""
    for stats in report.sites:
        if said := main_cause(stats):
            yield stats.site.id, said


def main_cause(stats: SiteStats) -> str:
    """Return the cause of most of a site's dead units; nothing where no unit has one."""
    if not stats.causes:
        return ""
    cause = Counter(found.cause for found in stats.causes).most_common(1)[0][0]
    alike = [found for found in stats.causes if found.cause == cause]
    shown = min(alike, key=lambda found: (found.wakes is None, abs(found.wakes.add) if found.wakes else 0.0))
    share = (
        count(len(alike), "dead unit") if len(alike) == stats.dead else f"{len(alike):,} of {stats.dead:,} dead units"
    )
    return f"{share}: {_explained(shown, stats)}.{_woken(shown)}"


def units_by_cause(stats: SiteStats) -> list[tuple[str, tuple[int, ...]]]:
    """Return each cause at a site with its units, the most frequent first."""
    units: dict[str, list[int]] = {}
    for found in stats.causes:
        units.setdefault(found.cause, []).append(found.unit)
    return sorted(((cause, tuple(of)) for cause, of in units.items()), key=lambda pair: -len(pair[1]))


def _explained(found: UnitCause, stats: SiteStats) -> str:
    """The cause with its figures."""
    figures = {name: number(value) for name, value in found.evidence.items() if isinstance(value, (int, float))}
    layer, unit = stats.site.after or "the layer", found.unit
    match found.cause:
        case "bias":
            return (
                f"the bias of {layer} holds them down (unit {unit}: bias {figures['bias']}, w·x at most"
                f" {figures['max_product']})"
            )
        case "norm":
            return f"the norm {layer} holds them down (unit {unit}: γ {figures['gamma']}, β {figures['beta']})"
        case "input mean" if "mean_normalised" in figures:
            return (
                f"what {layer} gets is not centred (unit {unit}: without the running mean and variance it is"
                f" {figures['mean_normalised']} on average)"
            )
        case "input mean":
            return (
                f"the inputs of {layer} are not centred (unit {unit}: w·x is {figures['mean_product']} on average, and"
                f" rises {figures['max_centred']} above that)"
            )
        case "weights" if "weight_norm" in figures:
            return (
                f"the weights before them have collapsed (unit {unit}: norm {figures['weight_norm']}, where"
                f" {figures['usual_weight_norm']} is usual)"
            )
        case "weights":
            largest = f"unit {unit}: largest weight {figures['largest_weight']}"
            return f"no weight on a live input is positive, and no input negative ({largest})"
        case "upstream":
            return f"all that they read is dead (unit {unit} reads {_read(found)})"
        case "cap":
            return f"they are stuck above {figures['cap']} (unit {unit}: at least {figures['min_preactivation']})"
    return f"the cause is not known, since {found.evidence['why']}"


def _read(found: UnitCause) -> str:
    """The dead units that a unit reads."""
    units, site = found.evidence.get("units"), found.evidence.get("site")
    if not isinstance(units, tuple):
        return f"{site}"
    return f"unit{'' if len(units) == 1 else 's'} {ranges(units, limit=4)} of {site}"


def _woken(found: UnitCause) -> str:
    """What would wake a unit."""
    wakes = found.wakes
    if wakes is None:
        return ""
    change = f"+{number(wakes.add)}" if wakes.add > 0 else number(wakes.add)
    return f" {change} on {wakes.parameter}[{found.unit}] wakes it on {count(wakes.samples, 'sample')}."
