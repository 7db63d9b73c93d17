"""The causes of dead units in words: the main one of each sick site, with the figures of one unit that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from deadrelu.report import Report, SiteStats
from deadrelu.report.causes import UnitCause
from deadrelu.text.wording import count, first_few, number, ranges

MOST_SITES = 12
"""So many sites have their main cause named in a table."""


def causes_in_words(report: Report) -> Iterator[tuple[str, str]]:
    """Yield each sick site with its main cause; those where it is not known come together, at the end."""
    unknown: dict[str, list[str]] = {}
    for stats in report.sites:
        said = main_cause(stats)
        if said and _main(stats)[0].cause == "unknown":
            unknown.setdefault(_why(_main(stats)[0]), []).append(stats.site.id)
        elif said:
            yield stats.site.id, said
    for why, ids in unknown.items():
        yield first_few(ids, 4), f"the cause is not known, since {why}."


def main_cause(stats: SiteStats) -> str:
    """Return the cause of most of a site's dead units in a sentence or two; nothing where no unit has one."""
    if not stats.causes:
        return ""
    alike = _main(stats)
    shown = min(alike, key=lambda found: (found.wakes is None, abs(found.wakes.add) if found.wakes else 0.0))
    of = "" if len(alike) == stats.dead else f" of {stats.dead:,}"
    units = f"{len(alike):,}{of} dead units" if of else count(len(alike), "dead unit")
    return f"{units}: {_explained(shown, stats, 'it' if len(alike) == 1 else 'them')}.{_woken(shown)}"


def units_by_cause(stats: SiteStats) -> list[tuple[str, tuple[int, ...]]]:
    """Return each cause at a site with its units, the most frequent first."""
    units: dict[str, list[int]] = {}
    for found in stats.causes:
        units.setdefault(found.cause, []).append(found.unit)
    return sorted(((cause, tuple(of)) for cause, of in units.items()), key=lambda pair: -len(pair[1]))


def _main(stats: SiteStats) -> list[UnitCause]:
    """The units that have the most frequent cause of a site."""
    cause = Counter(found.cause for found in stats.causes).most_common(1)[0][0]
    return [found for found in stats.causes if found.cause == cause]


def _explained(found: UnitCause, stats: SiteStats, them: str) -> str:
    """The cause with its figures."""
    figures: dict[str, str] = defaultdict(lambda: "?")  # for what a report of another version may lack
    figures |= {name: number(value) for name, value in found.evidence.items() if isinstance(value, (int, float))}
    layer, unit = stats.site.after or "the layer", f"unit {found.unit}"
    match found.cause:
        case "bias":
            shown = f"{unit}: bias {figures['bias']}, w·x at most {figures['max_product']}"
            return f"the bias of {layer} holds {them} down ({shown})"
        case "norm":
            return f"the norm {layer} holds {them} down ({unit}: γ {figures['gamma']}, β {figures['beta']})"
        case "input mean" if "mean_normalised" in figures:
            shown = f"{unit}: without the running mean and variance it is {figures['mean_normalised']} on average"
            return f"what {layer} gets is not centred ({shown})"
        case "input mean":
            shown = (
                f"{unit}: w·x is {figures['mean_product']} on average, and rises {figures['max_centred']} above that"
            )
            return f"the inputs of {layer} are not centred ({shown})"
        case "weights" if "weight_norm" in figures:
            shown = f"{unit}: norm {figures['weight_norm']}, where {figures['usual_weight_norm']} is usual"
            return f"the weights before {them} have collapsed ({shown})"
        case "weights":
            shown = f"{unit}: largest weight {figures['largest_weight']}"
            return f"no weight is positive and no input negative ({shown})"
        case "upstream":
            return f"nothing before {them} is alive ({unit} reads {_read(found)})"
        case "cap":
            return f"all values are above {figures['cap']} ({unit}: at least {figures['min_preactivation']})"
    return f"the cause is not known, since {_why(found)}"


def _why(found: UnitCause) -> str:
    """Why no cause is known."""
    return str(found.evidence.get("why", "too little is known"))


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
