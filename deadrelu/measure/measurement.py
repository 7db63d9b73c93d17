"""What a scan counted, in plain values: one process sends them to another, and `merge_measurements` adds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from torch import Tensor

from deadrelu.judge.early import Stopped
from deadrelu.judge.statistics import add_counts
from deadrelu.measure.padding.found import NOTHING, PaddingFound, merge_found
from deadrelu.measure.silence import Silence
from deadrelu.programs.program import ROOT, site_id
from deadrelu.report import NO_ROWS, Counts, Site, Skipped
from deadrelu.report.causes import Inputs
from deadrelu.report.gradients import GradientSums, LossRecord
from deadrelu.text.wording import count


@dataclass(frozen=True, kw_only=True)
class SiteCounts:
    """A site with its counts. `failure` is why they mean nothing.

    `gram` is the Gram matrix of its outputs, `gradients` the sums of its gradients; None where not asked for. `silence`
    is what is known of its silent units; None if it has none.

    `first` is when the site first ran: the batch, the piece of it, and the site's place in the order of sites.
    `site.shape` is () where the site ran, but nothing was counted.
    """

    site: Site
    functional: bool
    first: tuple[int, ...]
    counts: Counts
    failure: str | None = None
    gram: Tensor | None = None
    gradients: GradientSums | None = None
    silence: Silence | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What this site has in common in every process, even where the numbers of calls differ."""
        return self.functional, self.site.module, self.site.op, self.site.call

    @property
    def skip_reason(self) -> str | None:
        """Why the site is skipped; None if it is measured."""
        return self.failure if self.failure is not None or self.counts.positions else NO_ROWS

    def with_calls(self, calls: int) -> SiteCounts:
        """The same site where its module is called so often."""
        id = self.site.id
        if not self.functional:
            id = site_id(self.site.module, self.site.op, self.site.call, calls, functional=False)
        return replace(self, site=replace(self.site, id=id, calls=calls))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one pass over the data showed: `sites` in the order in which they first ran, what was skipped.

    `stopped` is the verdict that ended the scan before the data did. `is_native`: whether the loop in C counted any.
    `loss` is there where one was given, `inputs` where a layer with weights was met.
    """

    sites: tuple[SiteCounts, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    batches: int
    stopped: Stopped | None = None
    padding: PaddingFound = NOTHING
    is_native: bool = False
    loss: LossRecord | None = None
    inputs: Inputs | None = None

    @property
    def measured(self) -> tuple[SiteCounts, ...]:
        """The sites whose counts mean something."""
        return tuple(site for site in self.sites if site.skip_reason is None)

    @property
    def unmeasured(self) -> tuple[Skipped, ...]:
        """All that was skipped, with the sites whose counting failed, and those that no sample reached."""
        failed = (
            Skipped(id=s.site.id, op=s.site.op, reason=reason, alias=s.site.alias)
            for s in self.sites
            if (reason := s.skip_reason) is not None
        )
        return (*self.skipped, *failed)


def merge_measurements(parts: Sequence[Measurement]) -> Measurement:
    """The measurement of the whole data, of which each process has a part. Sums are added in the order of `parts`."""
    return Measurement(
        sites=_merge_sites(parts),
        skipped=_merge_skipped(parts),
        samples=sum(part.samples for part in parts),
        batches=sum(part.batches for part in parts),
        padding=merge_found(part.padding for part in parts),
        is_native=any(part.is_native for part in parts),
        loss=reduce(LossRecord.plus, losses) if (losses := [part.loss for part in parts if part.loss]) else None,
        inputs=next((part.inputs for part in parts if part.inputs), None),
    )


def with_unique_ids(sites: Iterable[SiteCounts]) -> tuple[SiteCounts, ...]:
    """The sites; of two with one id the later one gets the next free number.

    A call that ran only while no operator was followed is named by its number alone; and two processes may have met the
    calls of a branch in another order.
    """
    out: list[SiteCounts] = []
    used: set[str] = set()
    for site in sites:
        id, number = site.site.id, 1
        while id in used:
            number += 1
            id = f"{site.site.id.partition('#')[0]}#{number}"
        used.add(id)
        out.append(site if id == site.site.id else replace(site, site=replace(site.site, id=id)))
    return tuple(out)


def merge_shapes(
    shapes: Iterable[tuple[tuple[int | str, ...], int | None]], units: int
) -> tuple[tuple[int | str, ...], int | None]:
    """One shape and feature axis for several, with "*" for the sizes that vary; a shape of () is not known."""
    merged: tuple[tuple[int | str, ...], int | None] = ((), None)
    for other, other_axis in shapes:
        shape, axis = merged
        if not shape or not other:
            merged = (shape, axis) if shape else (other, other_axis)
        elif len(other) == len(shape):
            merged = tuple(a if a == b else "*" for a, b in zip(shape, other, strict=True)), axis
        else:
            merged = ("*", units), axis and 1
    return merged


def _merge_sites(parts: Sequence[Measurement]) -> tuple[SiteCounts, ...]:
    """Every site that any process met, as one process would have counted it, in the order of the first calls."""
    met: dict[tuple[object, ...], list[SiteCounts]] = {}
    calls: dict[tuple[object, ...], int] = {}
    for site in (site for part in parts for site in part.sites):
        met.setdefault(site.key, []).append(site)
        group = site.key[:-1]
        calls[group] = max(calls.get(group, 0), site.site.calls)
    merged = (_merge_site(same).with_calls(calls[key[:-1]]) for key, same in met.items())
    return with_unique_ids(sorted(merged, key=lambda site: site.first))


def _merge_site(same: Sequence[SiteCounts]) -> SiteCounts:
    """One site of which several processes have counts, in the order of the processes."""
    in_order = sorted(same, key=lambda site: site.first)
    first = in_order[0]
    units = first.site.units
    failure = next((site.failure for site in in_order if site.failure is not None), None)
    others = [site.site.units for site in in_order if site.site.units != units]
    if failure is None and others:
        failure = f"its feature axis has {count(units, 'unit')} in one call and {others[0]} in another"
    shape, axis = merge_shapes([(site.site.shape, site.site.feature_axis) for site in in_order], units)
    counts = first.counts if failure is not None else reduce(add_counts, (site.counts for site in same))
    grams = [site.gram for site in same if site.gram is not None]
    gram = sum(grams[1:], grams[0]) if failure is None and grams else None
    sums = [site.gradients for site in same if site.gradients is not None]
    gradients = reduce(GradientSums.plus, sums) if failure is None and len(sums) == len(same) else None
    site = replace(first.site, shape=shape, feature_axis=axis)
    merged = replace(first, site=site, counts=counts, failure=failure, gram=gram, gradients=gradients)
    return replace(merged, silence=_merge_silence([site.silence for site in same if site.counts.positions]))


def _merge_silence(parts: Sequence[Silence | None]) -> Silence | None:
    """What is silent in every process that has counted; of the layers, all know the same."""
    known = [part for part in parts if part is not None]
    return reduce(Silence.plus, known) if known and len(known) == len(parts) else None


def _merge_skipped(parts: Sequence[Measurement]) -> tuple[Skipped, ...]:
    """What any process skipped, once; but not what was never called in one and was called in another."""
    called = {name for part in parts for site in part.sites for name in (site.site.id, site.site.module or ROOT)}
    out: dict[str, Skipped] = {}
    for skipped in (skipped for part in parts for skipped in part.skipped):
        if not (skipped.is_unreached and skipped.id in called):
            out.setdefault(skipped.id, skipped)
    return tuple(out.values())
