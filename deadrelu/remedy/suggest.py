"""From a report to advice: what must be settled first, then each sick site with its remedies, best first."""

from __future__ import annotations

import math
from pathlib import Path

from deadrelu.commands import scan_command
from deadrelu.errors import UsageError
from deadrelu.remedies import Advice, Ailment, Remedy, SiteAdvice
from deadrelu.remedy.causes import CLIP, cause, wholly_dead_cause
from deadrelu.remedy.evidence import measure_first, non_finite, setting, skipped_site
from deadrelu.remedy.means import Means
from deadrelu.report import Report, SiteStats
from deadrelu.wording import count, exact_percent, percent, ranges

MOSTLY = 0.5
"""From this share of dead units on, in 0..1, a site is mostly dead, and not its single units but the layer is sick."""

CAUTION = (
    "A swap changes what live units compute too, and is no cure by itself: fine-tune after it, and scan again."
    " Sokar et al. (2023) saw leaky ReLU reduce dormant units only slightly."
)


def suggest(report: Report, *, slope: float = 0.01, root: Path = Path()) -> Advice:
    """What to do about each ailment that `report` shows; no items where nothing is sick.

    `slope` is that of the leaky ReLU for negative inputs, between 0 and 1. Source files are read, for the exact edit,
    relative to `root`. Raises `UsageError` for a slope out of range.
    """
    if not 0 < slope < 1:
        raise UsageError(f"--slope is {slope}, not between 0 and 1", hint="for example --slope 0.01")
    sites = [
        item for stats in report.sites if (item := _site(Means(report=report, stats=stats, slope=slope, root=root)))
    ]
    items = (*non_finite(report), *measure_first(report), *sites, *(skipped_site(report, s) for s in report.skipped))
    swaps = any(stats.dead for stats in report.sites)
    return Advice(
        model=report.model.path, data=report.data.source, items=tuple(items), caution=CAUTION if swaps else ""
    )


def check_slope(slope: float) -> None:
    """Raise `UsageError` for a slope with which a leaky ReLU would be a ReLU, a line, or worse."""
    if not 0 < slope < 1:
        raise UsageError(f"--slope is {slope}, not between 0 and 1", hint="for example --slope 0.01")


def _site(means: Means) -> SiteAdvice | None:
    """What ails one site, and its remedies; None if nothing does."""
    stats = means.stats
    if stats.dead == stats.site.units > 0:
        return _wholly_dead(means)
    if stats.dead:
        return _mostly_dead(means) if stats.dead_fraction >= MOSTLY else _some_dead(means)
    return _rare(means) if stats.rare_units else None


def _wholly_dead(means: Means) -> SiteAdvice:
    """The layer passes nothing on: a swap alone gives back no function that was ever learnt."""
    stats, remedies = means.stats, [wholly_dead_cause(means.stats)]
    why = (
        f"The leak lets gradient through, but what the layer knew is gone: {_he(means.slope)}. Then train: without"
        " training the output is no better."
    )
    fresh = means.reinit(why)
    remedies += [fresh] if fresh else means.whole(f"{why} Initialise {_before(stats)} anew as well.")
    remedies.append(
        Remedy(
            title="Retrain with a lower learning rate, a warm-up, and clipped gradients",
            why="A whole layer dies by a few steps that are far too large, most often at the start.",
            command=CLIP,
        )
    )
    says = (
        f"None of {count(stats.site.units, 'unit')} fired on {count(stats.samples, 'sample')}: what comes after this"
        " site alone is the same for every input. A swap alone will not do."
    )
    return _advice(means, "wholly dead", says, remedies)


def _mostly_dead(means: Means) -> SiteAdvice:
    """The layer is sick as a whole."""
    if elsewhere := means.elsewhere():
        return _advice(means, "mostly dead", _dead_of(means.stats), [elsewhere, cause(means.stats)])
    why = f"At {percent(means.stats.dead_fraction)} dead it is the layer that is sick; a leak lets gradient through."
    fresh = means.reinit(
        f"Wakes them where a leak alone is slow: {_he(means.slope)}. Their outgoing weights start at 0 where that can"
        " be done, so that the output does not move (ReDo, Sokar et al. 2023)."
    )
    remedies = [*means.whole(why), fresh, cause(means.stats), means.other()]
    return _advice(means, "mostly dead", _dead_of(means.stats), [remedy for remedy in remedies if remedy is not None])


def _some_dead(means: Means) -> SiteAdvice:
    """A live layer with dead units in it."""
    if elsewhere := means.elsewhere():
        return _advice(means, "some dead", _dead_of(means.stats), [elsewhere, cause(means.stats)])
    whole = means.whole("The layer is alive, and a leak everywhere changes what its live units compute too.")
    remedies = [means.only_dead(), *whole, cause(means.stats)]
    return _advice(means, "some dead", _dead_of(means.stats), [remedy for remedy in remedies if remedy is not None])


def _rare(means: Means) -> SiteAdvice:
    """Alive: nothing is to be done."""
    stats = means.stats
    below = exact_percent(setting(means.report, "rare_below", 0.01))
    one = len(stats.rare_units) == 1
    says = (
        f"{len(stats.rare_units):,} of {count(stats.site.units, 'unit')} {'is' if one else 'are'} rare, and alive:"
        f" {'it fires' if one else 'they fire'} at fewer than {below} of positions, {_units(stats.rare_units)}."
    )
    remedy = Remedy(
        title="Leave it, and watch it",
        why="Sparsity is not death: a rare unit may serve a rare feature. Only a share that grows from checkpoint to"
        " checkpoint is a warning: keep this report to compare with.",
        command=scan_command(means.report, "-o", "json=report.json"),
    )
    return SiteAdvice(site=stats.site.id, ailment="rare", says=says, remedies=(remedy,))


def _advice(means: Means, ailment: Ailment, says: str, remedies: list[Remedy]) -> SiteAdvice:
    """The advice on a site with dead units; what ran before it may already explain it."""
    for earlier in means.report.sites:
        if earlier is means.stats:
            break
        if earlier.dead == earlier.site.units > 0:
            says += f" It runs after `{earlier.site.id}`, which is wholly dead: treat that first, and scan again."
            break
    if means.stats.dead and means.stats.rare_units:
        rare = len(means.stats.rare_units)
        says += f" {count(rare, 'more unit fires', 'more units fire')} rarely: leave {'it' if rare == 1 else 'them'}."
    return SiteAdvice(site=means.stats.site.id, ailment=ailment, says=says, remedies=tuple(remedies))


def _dead_of(stats: SiteStats) -> str:
    """How many units are dead, and which."""
    return (
        f"{stats.dead:,} of {count(stats.site.units, 'unit')} ({percent(stats.dead_fraction)}) never fired on"
        f" {count(stats.samples, 'sample')}: {_units(stats.dead_units)}."
    )


def _units(units: tuple[int, ...]) -> str:
    """Units by number."""
    return f"unit{'' if len(units) == 1 else 's'} {ranges(units)}"


def _before(stats: SiteStats) -> str:
    """The layer that gives the pre-activation."""
    return f"`{stats.site.after}`" if stats.site.after else "the layer before"


def _he(slope: float) -> str:
    """He et al. 2015, "Delving Deep into Rectifiers", eq. 15: the gain is √(2 / (1 + a²)) for slope a."""
    gain = math.sqrt(2 / (1 + slope**2))
    formula = f"gain sqrt(2 / (1 + {slope:g}^2)) = {gain:.4g}"
    return f"He initialisation for slope {slope:g} ({formula}; He et al. 2015) is a fresh start"
