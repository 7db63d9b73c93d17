"""What one process counted at one site, in plain values that can be sent to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deadrelu.measure.padding.found import NOTHING, PaddingFound
from deadrelu.measure.tally import Tally
from deadrelu.programs.program import site_id
from deadrelu.report import NO_ROWS, Counts, Leaky, Site, Skipped

Place = tuple[int, ...]
"""When a site first ran: the batch, the piece of it, and the site's place in the order of sites."""


@dataclass(frozen=True, kw_only=True)
class Tallied:
    """A site with its counts. `lost` says why they are no use.

    `site.shape` is () where the site was met, but nothing was counted.
    """

    site: Site
    functional: bool
    first: Place
    counts: Counts
    lost: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same for this site in every process, also where the numbers of calls differ."""
        return self.functional, self.site.module, self.site.op, self.site.call

    def with_calls(self, calls: int) -> Tallied:
        """The same site where its module is called so often."""
        id = self.site.id
        if not self.functional:
            id = site_id(self.site.module, self.site.op, self.site.call, calls, functional=False)
        return replace(self, site=replace(self.site, id=id, calls=calls))


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process has of a scan: `sites` in the order in which they first ran, what was skipped, what is leaky.

    `opening` tells the first batch of the data from another, "" where there was none.
    """

    sites: tuple[Tallied, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    batches: int
    leaky: tuple[Leaky, ...] = ()
    opening: str = ""
    padding: PaddingFound = NOTHING

    @property
    def measured(self) -> tuple[Tallied, ...]:
        """The sites whose counts mean something."""
        return tuple(site for site in self.sites if _no_use(site) is None)

    @property
    def unmeasured(self) -> tuple[Skipped, ...]:
        """All that was skipped, with the sites that were lost on the way, and those that no sample reached."""
        lost = (
            Skipped(id=t.site.id, op=t.site.op, reason=why, alias=t.site.alias)
            for t in self.sites
            if (why := _no_use(t)) is not None
        )
        return (*self.skipped, *lost)


def _no_use(site: Tallied) -> str | None:
    """Why the counts of a site mean nothing; None if they do mean something."""
    return site.lost if site.lost is not None or site.counts.positions else NO_ROWS


def tallied(tally: Tally, first: Place, lost: str | None, *, is_graph: bool) -> Tallied:
    """Read a tally. In a graph (`is_graph`) every call can be swapped, a functional one too."""
    call, counts = tally.site, tally.counts()
    if call.rectified:  # how near a silent unit came to waking is not known
        counts = replace(counts, maxima=tuple(value or None for value in counts.maxima))
    site = Site(
        id=call.id,
        op=call.op,
        module=call.module,
        call=call.call,
        calls=call.group.calls,
        after=call.after,
        source=call.source,
        swappable=is_graph or not call.functional,
        feature_axis=tally.axis,
        shape=tally.shape,
        units=tally.units,
        feature_axis_by="guess" if tally.features.by == "open" else tally.features.by,
        alias=call.alias,
    )
    return Tallied(site=site, functional=call.functional, first=first, counts=counts, lost=lost)


def with_own_ids(sites: Iterable[Tallied]) -> tuple[Tallied, ...]:
    """The sites, of which the later of two with one id has the next free number.

    A call that was met only while no operator was followed is named by its number alone; and two processes may have
    met the calls of a branch in another order.
    """
    out: list[Tallied] = []
    given: set[str] = set()
    for site in sites:
        id, number = site.site.id, 1
        while id in given:
            number += 1
            id = f"{site.site.id.partition('#')[0]}#{number}"
        given.add(id)
        out.append(site if id == site.site.id else replace(site, site=replace(site.site, id=id)))
    return tuple(out)


def joined(
    shapes: Sequence[tuple[tuple[int | str, ...], int | None]], units: int
) -> tuple[tuple[int | str, ...], int | None]:
    """One shape and feature axis for several: "*" for the sizes that vary, as one process would have noted them."""
    known = [shape for shape in shapes if shape[0]]
    if not known:
        return (), None
    shape, axis = known[0]
    for other, _ in known[1:]:
        if len(other) == len(shape):
            shape = tuple(a if a == b else "*" for a, b in zip(shape, other, strict=True))
        else:
            shape, axis = ("*", units), axis and 1
    return shape, axis
