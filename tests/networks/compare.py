"""A scan of a built network against what its construction says, site by site."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.report import Report, SiteStats, Stats
from tests.networks.network import Built, Call

Array = np.ndarray[Any, Any]
ROWS = {1: 6, 7: 17, 64: 70}
"""How many samples are scanned in batches of a size: the last batch is smaller where it can be."""
STATS: tuple[Stats, ...] = ("full", "rates", "fired")
NEARLY = 1e-5
"""A pre-activation nearer to zero than this share of the largest may round to either side."""


@dataclass(frozen=True)
class Expected:
    """What a site must show: `fires` and `unsure` (rounding) count positions, a unit each.

    `by_rank`: the units are not told apart; only one rank counts as one unit, and to skip the site is right.
    """

    id: str
    layout: str
    fires: Array
    unsure: Array
    positions: int
    by_rank: bool


@dataclass(frozen=True)
class Verdict:
    """What became of a site: "right", "guess", "skipped" (rightly) or "wrong", and in what."""

    site: str
    kind: str
    why: str = ""


def expected(built: Built, batches: Sequence[Tensor]) -> list[Expected]:
    """Run the recording network, and count in float64 at how many positions each unit fires."""
    totals: list[list[tuple[Array, Array, int]]] = [[] for _ in built.calls]
    for batch in batches:
        built.recorder.record.clear()
        with torch.no_grad():
            built.recorder(batch.clone())
        assert len(built.recorder.record) == len(built.calls)
        for total, call, z in zip(totals, built.calls, built.recorder.record, strict=True):
            rows = by_unit(z.numpy().astype(np.float64), call.layout)
            near = (np.abs(rows) < NEARLY * np.abs(rows).max(initial=0.0)) & (rows != 0)
            total.append(((rows > 0).sum(1), near.sum(1), rows.shape[1]))
    return [_summed(call, total) for call, total in zip(built.calls, totals, strict=True)]


def by_unit(z: Array, layout: str) -> Array:
    """One row of positions for each unit (or rank): the combinations of the F axes in axis order."""
    features = [axis for axis, letter in enumerate(layout) if letter in "FR"]
    units = int(np.prod([z.shape[axis] for axis in features]))
    return np.moveaxis(z, features, range(len(features))).reshape(units, -1)


def _summed(call: Call, totals: list[tuple[Array, Array, int]]) -> Expected:
    fires, unsure, positions = (sum(column) for column in zip(*totals, strict=True))
    return Expected(call.id, call.layout, fires, unsure, positions, by_rank="R" in call.layout)


def compare(
    built: Built,
    batch_size: int,
    stats: Stats,
    *,
    file: Path | None = None,
    feature_axes: Mapping[str, int] | None = None,
) -> list[Verdict]:
    """Scan the network (or another form of it, in a file) over batches of a size, and judge every site."""
    inputs = built.inputs(ROWS[batch_size])
    wanted = expected(built, inputs.split(batch_size))
    with _warnings() as said:
        report = deadrelu.scan(
            file or built.model,
            inputs.clone(),
            batch_size=batch_size,
            stats=stats,
            feature_axes=feature_axes,
            trust=Trust(all=True),
            device="cpu",
        )
    return judge(wanted, report, len(inputs), stats, guessed=" ".join(said))


def judge(wanted: Sequence[Expected], report: Report, samples: int, stats: Stats, guessed: str = "") -> list[Verdict]:
    """The verdict on every site that should be there, or is."""
    measured = {s.site.id: s for s in report.sites}
    skipped = {s.id: s.reason for s in report.skipped}
    verdicts = []
    order = [e.id for e in wanted if e.id in measured]
    if order != list(measured):
        verdicts.append(Verdict("(all)", "wrong", f"sites {list(measured)} instead of {[e.id for e in wanted]}"))
    for e in wanted:
        site = measured.get(e.id)
        if site is None:
            fine = e.by_rank and e.id in skipped
            verdicts.append(Verdict(e.id, "skipped" if fine else "wrong", f"skipped: {skipped.get(e.id)}"))
        elif getattr(site.site, "feature_axis_by", None) == "guess" or f"feature axis of {e.id} was guessed" in guessed:
            verdicts.append(Verdict(e.id, "guess", _why(e, site, samples, stats)))
        else:
            why = _why(e, site, samples, stats)
            verdicts.append(Verdict(e.id, "wrong" if why else "right", why))
    return verdicts


def _why(e: Expected, site: SiteStats, samples: int, stats: Stats) -> str:
    """In what a measured site is not as expected; empty if in nothing."""
    where = f"{e.layout} {site.site.shape}, axis {site.site.feature_axis}"
    if e.by_rank and len(e.fires) > 1:
        return f"{where}: ranks counted as {site.site.units} units"
    if site.site.units != len(e.fires):
        return f"{where}: {site.site.units} units instead of {len(e.fires)}"
    for unit, (fires, unsure) in enumerate(zip(e.fires, e.unsure, strict=True)):
        if (unit in site.dead_units) != (fires == 0) and not unsure:
            return f"{where}: unit {unit} fires at {fires} positions; dead units {site.dead_units}"
    if stats == "fired":
        return "" if site.samples <= samples else f"{where}: {site.samples} samples of {samples}"
    if (site.samples, site.positions) != (samples, e.positions):
        return f"{where}: {site.samples} samples, {site.positions} positions instead of {samples}, {e.positions}"
    for unit, (fires, unsure) in enumerate(zip(e.fires, e.unsure, strict=True)):
        counted = round((site.firing_rate[unit] or 0.0) * site.positions)
        if abs(counted - fires) > unsure:
            return f"{where}: unit {unit} fires at {counted} positions instead of {fires}"
    return ""


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What deadrelu logs."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("deadrelu")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
