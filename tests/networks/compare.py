"""A scan of a built network against what its construction says, site by site."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import deadrelu
from deadrelu.load.trust import Trust
from deadrelu.report import Report, SiteStats, Stats
from tests.networks.network import Built
from tests.networks.oracle import Counts, Expected, expected

ROWS = {1: 6, 7: 17, 64: 70}
"""How many samples are scanned in batches of a size: the last batch is smaller where it can be."""
STATS: tuple[Stats, ...] = ("full", "rates", "fired")


@dataclass(frozen=True)
class Verdict:
    """What became of a site: "right", "guess", "skipped" (rightly) or "wrong", and in what."""

    site: str
    kind: str
    why: str = ""


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
    measured = {s.site.alias or s.site.id: s for s in report.sites}  # the oracle counts the calls
    skipped = {s.alias or s.id: s.reason for s in report.skipped}
    verdicts = []
    order = [e.id for e in wanted if e.id in measured]
    if order != list(measured):
        verdicts.append(Verdict("(all)", "wrong", f"order {list(measured)} instead of {order}"))
    for e in wanted:
        site = measured.get(e.id)
        if site is None:
            # A program exported for at least two samples takes one with padding, which cannot be told from it where the
            # samples are not in front, also not within rows that positions were flattened into.
            is_flat = "P" not in e.layout and e.readings[0].positions > samples
            is_padded = (e.layout[0] != "N" or is_flat) and "padded" in skipped.get(e.id, "")
            fine = e.id in skipped and (e.is_by_rank or is_padded)
            verdicts.append(Verdict(e.id, "skipped" if fine else "wrong", f"skipped: {skipped.get(e.id)}"))
        elif getattr(site.site, "feature_axis_by", None) == "guess" or f"feature axis of {e.id} was guessed" in guessed:
            verdicts.append(Verdict(e.id, "guess", _why(e, site, samples, stats)))
        else:
            why = _why(e, site, samples, stats)
            verdicts.append(Verdict(e.id, "wrong" if why else "right", why))
    return verdicts


def _why(e: Expected, site: SiteStats, samples: int, stats: Stats) -> str:
    """In what a measured site is not as expected; empty if in nothing."""
    whys = [_differs(e, counts, site, samples, stats) for counts in e.readings]
    return "" if "" in whys else f"{e.layout} {site.site.shape}, axis {site.site.feature_axis}: {whys[0]}"


def _differs(e: Expected, counts: Counts, site: SiteStats, samples: int, stats: Stats) -> str:
    if e.is_by_rank and len(counts.fires) > 1:
        return f"ranks counted as {site.site.units} units"
    if site.site.units != len(counts.fires):
        return f"{site.site.units} units instead of {len(counts.fires)}"
    stuck, others = site.dead_units, site.saturated_units
    if e.op != "relu":
        stuck, others = others, stuck
    if others:
        return f"units {others} of a {e.op} are called {'dead' if e.op != 'relu' else 'saturated'}"
    units = list(enumerate(zip(counts.fires, counts.unsure, strict=True)))
    for unit, (fires, unsure) in units:
        if (unit in stuck) != (fires == 0) and not unsure:
            return f"unit {unit} fires at {fires} positions; units that never do: {stuck}"
    if stats == "fired":
        return "" if site.samples <= samples else f"{site.samples} samples of {samples}"
    # Where the samples are not in front, a scan may take the first axis for its rows, and claim fewer: never more.
    if site.samples > samples or (site.samples < samples and e.layout[0] == "N"):
        return f"{site.samples} samples instead of {samples}"
    if site.positions != counts.positions:
        return f"{site.positions} positions instead of {counts.positions}"
    for unit, (fires, unsure) in units:
        counted = round((site.firing_rate[unit] or 0.0) * site.positions)
        if abs(counted - fires) > unsure:
            return f"unit {unit} fires at {counted} positions instead of {fires}"
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
