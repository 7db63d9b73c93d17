"""Groups the sites that need the same: one paragraph and one command for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from deadrelu.remedy.candidate import Candidate, patch_sites
from deadrelu.remedy.variants import possible
from deadrelu.report.advice import Edit, GroupAdvice, Remedy, SiteAdvice
from deadrelu.text.wording import count, percent

_MOST_LINES = 4
"""With more statements than this, a group leaves them to its sites."""

_NAMES = re.compile(r"`[^`]*`")


def group_sites(pairs: Sequence[tuple[Candidate, SiteAdvice]], *, given: Sequence[Remedy]) -> list[GroupAdvice]:
    """Group the sick sites by ailment and remedies, in the order of their first site.

    A later call of a shared module joins its first sick call. Edits `given` for the whole model are not repeated.
    """
    groups: dict[tuple[object, ...], list[tuple[Candidate, SiteAdvice]]] = {}
    of_module: dict[str, tuple[object, ...]] = {}
    for candidate, item in pairs:
        site = candidate.stats.site
        key = of_module.get(site.module) if site.swappable and item.ailment != "rare" else None
        if key is None:
            key = (item.ailment, *(_NAMES.sub("", remedy.title) for remedy in item.remedies))
            if site.swappable and item.ailment != "rare":
                of_module[site.module] = key
        groups.setdefault(key, []).append((candidate, item))
    edits = {remedy.edits for remedy in given if remedy.edits}
    return [_without(edits, _group(members)) for members in groups.values()]


def _without(edits: set[tuple[Edit, ...]], group: GroupAdvice) -> GroupAdvice:
    """The group without the remedies that consist of these edits."""
    return replace(group, remedies=tuple(remedy for remedy in group.remedies if remedy.edits not in edits))


def _group(members: Sequence[tuple[Candidate, SiteAdvice]]) -> GroupAdvice:
    """The advice on sites of one group."""
    candidate, item = members[0]
    sites = tuple(other.stats.site.id for other, _ in members)
    if len(members) == 1:
        alone = (replace(remedy, why="") if remedy.command else remedy for remedy in _main(item))
        return GroupAdvice(sites=sites, ailment=item.ailment, says=item.says, remedies=tuple(alone))
    stats = [other.stats for other, _ in members]
    units = sum(each.site.units for each in stats)
    if item.ailment == "rare":
        rare = sum(len(each.rare_units) for each in stats)
        says = f"{rare:,} of {count(units, 'unit')} at {count(len(stats), 'site')} are rare but alive."
        return GroupAdvice(sites=sites, ailment="rare", says=says, remedies=item.remedies)
    dead = sum(each.dead for each in stats)
    says = f"{dead:,} of {count(units, 'unit')} at {count(len(stats), 'site')} ({percent(dead / units)}) never fired."
    variants = possible(candidate.report, candidate.stats)
    remedies = []
    for remedy in _main(item):
        if variants and remedy.command and remedy.command.startswith("deadrelu patch"):
            name = f"{sites[0]}-and-{len(sites) - 1}-more"
            command = patch_sites(candidate.report, stats, variants[0], candidate.slope, name)
            remedies.append(Remedy(title=remedy.title, why="", command=command))
        elif remedy.edits:
            edits = [edit for other, _ in members if (edit := other.edit())]
            remedies.append(Remedy(title=remedy.title, why=remedy.why, edits=tuple(dict.fromkeys(edits))))
        else:
            remedies.append(_of_all(remedy, members))
    return GroupAdvice(sites=sites, ailment=item.ailment, says=says, remedies=tuple(remedies))


def _main(item: SiteAdvice) -> list[Remedy]:
    """The best swap, and the remedies that are not swaps."""
    swaps = [remedy for remedy in item.remedies if remedy.command or remedy.edits]
    return [remedy for remedy in item.remedies if remedy not in swaps[1:]]


def _of_all(remedy: Remedy, members: Sequence[tuple[Candidate, SiteAdvice]]) -> Remedy:
    """A remedy that is not a swap, for all of these sites that need it: with their layers, and a few statements."""
    named = _NAMES.sub("", remedy.title)
    alike = [(each, own) for each, item in members for own in item.remedies if _NAMES.sub("", own.title) == named]
    layers = list(dict.fromkeys(f"`{layer}`" for each, _ in alike if (layer := each.stats.site.after)))
    shown = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
    title = _NAMES.sub(lambda _: shown, remedy.title, count=1) if layers else remedy.title
    lines = list(dict.fromkeys(line for _, own in alike for line in (own.python or "").splitlines()))
    if len(lines) > _MOST_LINES:
        return Remedy(title=title, why="--full shows the figures of each site, and the statements.")
    return Remedy(title=title, why="--full shows the figures of each site.", python="\n".join(lines) or None)
