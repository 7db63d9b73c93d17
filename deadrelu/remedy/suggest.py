"""Turns a report into advice: what comes first, then each sick site with its remedies, best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from deadrelu.errors import UsageError
from deadrelu.remedy.candidate import Candidate
from deadrelu.remedy.causes import clipping, comes_first, lower_rate, remedy_for_cause
from deadrelu.remedy.caveats import inputs_first, measure_first, non_finite, setting, skipped_site
from deadrelu.remedy.groups import group_sites
from deadrelu.remedy.whole_model import whole_model
from deadrelu.render.optimizer import since
from deadrelu.report import Report, SiteStats
from deadrelu.report.advice import Advice, Ailment, Remedy, SiteAdvice
from deadrelu.report.commands import scan_command
from deadrelu.report.optimizer import QUIET_STEPS
from deadrelu.text.wording import count, exact_percent, percent, ranges

MOSTLY = 0.5
"""From this share of dead units on, in 0..1, a site is mostly dead: the layer is sick, not single units."""

CAUTION = (
    "a swap alone cures nothing: fine-tune, and scan again. Sokar et al. (2023) saw leaky ReLU reduce dormant units"
    " only slightly. `deadrelu trial` trains with and without each remedy, and says which helps."
)


def suggest(report: Report, *, slope: float = 0.01, root: Path = Path()) -> Advice:
    """What to do about each ailment in `report`; no items if nothing is sick.

    `slope` is that of the leaky ReLU for negative inputs, between 0 and 1. Source files are read, for the exact edit,
    relative to `root`. Raises `UsageError` for a slope out of range.
    """
    check_slope(slope)
    every = [Candidate(report=report, stats=stats, slope=slope, root=root) for stats in report.sites]
    pairs = [(candidate, item) for candidate in every if (item := _site(candidate))]
    sick = [candidate for candidate in every if candidate.stats.dead]
    whole = tuple(whole_model(sick))
    return Advice(
        model=report.model.path,
        data=report.data.source,
        first=(*inputs_first(report), *non_finite(report), *measure_first(report)),
        whole=whole,
        groups=tuple(group_sites(pairs, given=whole)),
        items=(*(item for _, item in pairs), *(skipped_site(report, s) for s in report.skipped)),
        caution=" ".join((CAUTION, *_decays(report))) if sick else "",
    )


def check_slope(slope: float) -> None:
    """Raise `UsageError` unless the slope is between that of a ReLU (0) and that of a line (1)."""
    if not 0 < slope < 1:
        raise UsageError(f"--slope is {slope}, not between 0 and 1", hint="for example --slope 0.01")


def _site(candidate: Candidate) -> SiteAdvice | None:
    """The advice on one site; None if nothing ails it."""
    stats = candidate.stats
    if stats.dead == stats.site.units > 0:
        return _wholly_dead(candidate)
    if stats.dead:
        return _partly_dead(candidate, "mostly dead" if stats.dead_fraction >= MOSTLY else "some dead")
    return _rare(candidate) if stats.rare_units else None


def _wholly_dead(candidate: Candidate) -> SiteAdvice:
    """Advice on a layer that passes nothing on: a swap alone does not restore what was learnt."""
    stats = candidate.stats
    cause = remedy_for_cause(candidate.report, stats)
    remedies = [cause, *candidate.swaps()]
    remedies.append(
        Remedy(
            title=f"Retrain with {lower_rate(candidate.report)}, a warm-up, and clipped gradients",
            why="A few steps that are far too large, most often at the start, can kill a whole layer.",
            python=clipping(candidate.report),
        )
    )
    says = (
        f"None of {count(stats.site.units, 'unit')} fired on {count(stats.samples, 'sample')}: what comes after this"
        " site alone is the same for every input. A swap alone is not enough: train after it."
    )
    return _advice(candidate, "wholly dead", says, remedies)


def _partly_dead(candidate: Candidate, ailment: Ailment) -> SiteAdvice:
    """Advice on a live layer with dead units."""
    elsewhere = candidate.elsewhere()
    swaps = [elsewhere] if elsewhere else [*candidate.swaps()]
    cause = remedy_for_cause(candidate.report, candidate.stats)
    remedies = [cause, *swaps] if comes_first(candidate.stats) else [*swaps, cause]
    return _advice(candidate, ailment, _dead_of(candidate.stats), remedies)


def _rare(candidate: Candidate) -> SiteAdvice:
    """Advice on rare units, which are alive: do nothing."""
    stats = candidate.stats
    below = exact_percent(setting(candidate.report, "rare_below", 0.01))
    one = len(stats.rare_units) == 1
    says = (
        f"{len(stats.rare_units):,} of {count(stats.site.units, 'unit')} {'is' if one else 'are'} rare but alive:"
        f" {'it fires' if one else 'they fire'} at fewer than {below} of positions, {_units(stats.rare_units)}."
    )
    remedy = Remedy(
        title="Leave it, and watch it",
        why="Sparsity is not death: a rare unit may serve a rare feature. Only a share that grows from checkpoint to"
        " checkpoint is a warning: keep this report to compare against.",
        command=scan_command(candidate.report, "-o=json=report.json"),
    )
    return SiteAdvice(site=stats.site.id, ailment="rare", says=says, remedies=(remedy,))


def _advice(candidate: Candidate, ailment: Ailment, says: str, remedies: list[Remedy]) -> SiteAdvice:
    """The advice on a site with dead units, with a wholly dead site before it that may explain them."""
    for earlier in candidate.report.sites:
        if earlier is candidate.stats:
            break
        if earlier.dead == earlier.site.units > 0:
            says += f" It runs after `{earlier.site.id}`, which is wholly dead: fix that first, and scan again."
            break
    if candidate.stats.dead and candidate.stats.rare_units:
        rare = len(candidate.stats.rare_units)
        says += f" {count(rare, 'more unit fires', 'more units fire')} rarely: leave {'it' if rare == 1 else 'them'}."
    says += "".join(f" {sentence}" for sentence in _remembered(candidate))
    return SiteAdvice(site=candidate.stats.site.id, ailment=ailment, says=says, remedies=tuple(remedies))


def _remembered(candidate: Candidate) -> Iterator[str]:
    """What the optimizer of a checkpoint remembers of dead units: since when they had no gradient."""
    dead, after = set(candidate.stats.dead_units), candidate.stats.site.after
    for layer in (layer for each in candidate.report.model.optimizers for layer in each.quiet):
        known = {unit: step for unit, step in zip(layer.units, layer.since, strict=True) if unit in dead}
        if layer.parameter == f"{after}.bias" and known:
            one = replace(layer, units=tuple(known), since=tuple(known.values()))
            yield (
                f"By what the optimizer remembers, {len(known):,} of them had no gradient in the latest {QUIET_STEPS}"
                f" steps or more{since(one)}."
            )


def _decays(report: Report) -> Iterator[str]:
    """A word on the weight decay of a training checkpoint."""
    found = max((decay for each in report.model.optimizers for decay in each.weight_decay), default=0.0)
    if found:
        yield f"Its weight decay of {found:g} does not wake a dead unit: it shrinks its weights and its bias alike."


def _dead_of(stats: SiteStats) -> str:
    """How many units are dead, and which."""
    return (
        f"{stats.dead:,} of {count(stats.site.units, 'unit')} ({percent(stats.dead_fraction)}) never fired on"
        f" {count(stats.samples, 'sample')}: {_units(stats.dead_units)}."
    )


def _units(units: tuple[int, ...]) -> str:
    """Units by number."""
    return f"unit{'' if len(units) == 1 else 's'} {ranges(units)}"
