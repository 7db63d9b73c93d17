"""Which sites the user wants swapped, for which activation, and in which units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deadrelu.activations import KEEP, REPLACEMENTS
from deadrelu.errors import UsageError
from deadrelu.judge.globs import matches
from deadrelu.programs.program import DeadUnits, Swap
from deadrelu.remedy.edits import edit_for
from deadrelu.report import SiteStats
from deadrelu.report.advice import Refusal


@dataclass(frozen=True, kw_only=True)
class SwapOptions:
    """What to swap, and for what. `sites` holds "dead", "all" or globs over site ids; `slope` is that of the leak."""

    to: str = "leaky_relu"
    slope: float = 0.01
    sites: tuple[str, ...] = ("dead",)
    only_dead_units: bool = False
    reinit: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for what cannot be done."""
        if self.to not in (*REPLACEMENTS, KEEP):
            raise UsageError(f"--with {self.to}: no such activation", hint=f"one of {', '.join(REPLACEMENTS)}")
        if self.to == KEEP and not self.reinit:
            raise UsageError("--with keep alone changes nothing", hint="add --reinit, which restarts the dead units")
        if not 0 < self.slope < 1:
            raise UsageError(f"--slope is {self.slope}, not between 0 and 1", hint="for example --slope 0.01")
        if self.only_dead_units and self.to not in ("leaky_relu", "prelu"):
            raise UsageError(
                f"--only-dead-units cannot be done with {self.to}", hint="it is an nn.PReLU: leave --with out"
            )


def choose_sites(sites: Sequence[SiteStats], globs: Sequence[str]) -> list[SiteStats]:
    """The sites that the globs match, in the order in which they ran. Raises `UsageError` if a glob matches none."""
    for glob in globs:
        if glob not in ("dead", "all") and not any(matches(glob, stats.site) for stats in sites):
            known = ", ".join(stats.site.id for stats in sites[:12])
            raise UsageError(f"--site {glob!r} matches no site", hint=f"the sites are {known}")

    def is_wanted(stats: SiteStats, glob: str) -> bool:
        return glob == "all" or (stats.dead > 0 if glob == "dead" else matches(glob, stats.site))

    return [stats for stats in sites if any(is_wanted(stats, glob) for glob in globs)]


def swap_of(stats: SiteStats, options: SwapOptions) -> Swap:
    """The wanted swap of one site."""
    site, only = stats.site, None
    if options.only_dead_units:
        only = DeadUnits(stats.dead_units, site.units, site.feature_axis, site.is_guessed)
    return Swap(site.id, options.to, options.slope, only)


def refuse(stats: SiteStats, reason: str, options: SwapOptions) -> Refusal:
    """The refusal of a site of a live model; for a functional call, with the source edit that would swap it."""
    site = stats.site
    if site.swappable or site.source is None:
        return Refusal(site=site.id, reason=reason)
    if not (options.only_dead_units or options.reinit):
        reason += "; --to pt2 swaps it in an exported copy"
    edit = edit_for(site.source, site.op, slope=options.slope, new=options.to, root=Path())
    return Refusal(site=site.id, reason=reason, edit=edit)
