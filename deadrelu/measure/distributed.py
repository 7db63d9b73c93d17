"""One scan by several processes of torch.distributed: each counts whole batches, and all of them get the sum."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deadrelu.errors import DataError, DeadreluError
from deadrelu.measure.padding.found import together
from deadrelu.measure.tallied import Part, Tallied, joined, with_own_ids
from deadrelu.programs.program import ROOT, Batch
from deadrelu.programs.shard import Shard
from deadrelu.report import Counts, Skipped
from deadrelu.text.wording import count


class Ranks:
    """The processes of the default group, which the caller has initialised and ends. All must make the same calls.

    Counts and maxima come out as in one process to the last bit. Sums of activations are added in the order of the
    ranks, so that two runs agree to the last bit, and with one process up to rounding.
    """

    def __init__(self) -> None:
        """Join the others; counters are exchanged on the current GPU with nccl, in main memory with gloo."""
        self.shard = Shard(dist.get_rank(), dist.get_world_size())
        self._device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

    @staticmethod
    def opening(batch: Batch) -> str:
        """A digest of a batch, by which processes find out whether they see the same data."""
        digest = hashlib.sha256()

        def add(value: object) -> None:
            if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
                digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            elif isinstance(value, str):
                digest.update(value.encode())
            elif isinstance(value, dict):
                add(list(value.items()))
            elif isinstance(value, (list, tuple)):
                for inner in value:
                    add(inner)

        add([batch.samples, batch.args, dict(batch.kwargs)])
        return digest.hexdigest()

    def unite(self, mine: Part) -> Part:
        """The whole of which every process has a part. Raises `DataError` where they do not see the same data.

        Raises `DeadreluError` where one does not come, or is gone.
        """
        try:
            return self._unite(mine)
        except RuntimeError as error:  # a timeout, or a connection that was closed
            raise DeadreluError(
                f"the ranks lost each other: {_said(error)}",
                hint="a rank died or hangs: look at the launcher's report, and at DEADRELU_RANK_TIMEOUT",
            ) from error

    def _unite(self, mine: Part) -> Part:
        facts = replace(mine, sites=tuple(replace(site, counts=_zeros(0)) for site in mine.sites))
        parts: list[Part] = [facts] * self.shard.world_size
        dist.all_gather_object(parts, facts)
        stranger = next((rank for rank, part in enumerate(parts) if part.opening != parts[0].opening), None)
        if stranger is not None:
            raise DataError(
                f"rank {stranger} does not see the same data as rank 0: its first batch is another one",
                hint="give every rank the whole data in one order (no DistributedSampler, shuffle=False, or a --seed)",
            )
        sites = _agreed(parts)
        counts = self._summed(sites, {site.key: site.counts for site in mine.sites if site.lost is None})
        return Part(
            sites=tuple(replace(site, counts=total) for site, total in zip(sites, counts, strict=True)),
            skipped=_skipped(parts),
            leaky=tuple({leaky.id: leaky for part in reversed(parts) for leaky in part.leaky}.values()),
            samples=sum(part.samples for part in parts),
            batches=sum(part.batches for part in parts),
            opening=mine.opening,
            padding=together(part.padding for part in parts),
        )

    def _summed(self, sites: Sequence[Tallied], mine: dict[tuple[object, ...], Counts]) -> list[Counts]:
        """The counts of every process added, site by site; what a process has not met adds nothing."""
        own = [mine.get(site.key) if site.lost is None else None for site in sites]
        counts = [c or _zeros(site.site.units) for c, site in zip(own, sites, strict=True)]
        whole = self._tensor((_integers(c) for c in counts), torch.int64)
        tops = self._tensor(([-math.inf if m is None else m for m in c.maxima] for c in counts), torch.float64)
        sums = self._tensor((c.output_sums for c in counts), torch.float64)
        dist.all_reduce(whole, dist.ReduceOp.SUM)
        dist.all_reduce(tops, dist.ReduceOp.MAX)
        every = [torch.empty_like(sums) for _ in range(self.shard.world_size)]
        dist.all_gather(every, sums)  # not reduced: a reduction may add in any order
        total = every[0]
        for more in every[1:]:
            total = total + more
        take_whole, take_top, take_sum = _taker(whole), _taker(tops), _taker(total)
        out = []
        for site in sites:
            units = site.site.units
            samples, rows, positions = take_whole(3)
            out.append(
                Counts(
                    samples=samples,
                    rows=rows,
                    positions=positions,
                    fires=take_whole(units),
                    row_fires=take_whole(units),
                    nonfinite=take_whole(units),
                    maxima=tuple(None if math.isinf(top) else top for top in take_top(units)),
                    output_sums=take_sum(units),
                )
            )
        return out

    def _tensor(self, values: Iterable[Iterable[float]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([value for some in values for value in some], dtype=dtype, device=self._device)


def _agreed(parts: Sequence[Part]) -> Sequence[Tallied]:
    """Every site that any process met, as one process would have it, in the order of its first calls; no counts yet."""
    met: dict[tuple[object, ...], list[Tallied]] = {}
    calls: dict[tuple[object, ...], int] = {}
    for site in (site for part in parts for site in part.sites):
        met.setdefault(site.key, []).append(site)
        group = site.key[:-1]
        calls[group] = max(calls.get(group, 0), site.site.calls)
    out = []
    for key, same in met.items():
        same.sort(key=lambda site: site.first)
        first = same[0]
        units = first.site.units
        lost = next((site.lost for site in same if site.lost is not None), None)
        others = [site.site.units for site in same if site.site.units != units]
        if lost is None and others:
            lost = f"its feature axis has {count(units, 'unit')} in one call and {others[0]} in another"
        shape, axis = joined([(site.site.shape, site.site.feature_axis) for site in same], units)
        site = replace(first, site=replace(first.site, shape=shape, feature_axis=axis), lost=lost)
        out.append(site.with_calls(calls[key[:-1]]))
    return with_own_ids(sorted(out, key=lambda site: site.first))


def _skipped(parts: Sequence[Part]) -> tuple[Skipped, ...]:
    """What any process skipped, once; but not what was never called in one and was called in another."""
    called = {name for part in parts for site in part.sites for name in (site.site.id, site.site.module or ROOT)}
    out: dict[str, Skipped] = {}
    for skipped in (skipped for part in parts for skipped in part.skipped):
        if not (skipped.is_unreached and skipped.id in called):
            out.setdefault(skipped.id, skipped)
    return tuple(out.values())


def _said(error: RuntimeError) -> str:
    """The first sentence of an error of gloo or nccl, without the place in its source."""
    return re.sub(r"^\[[^]]*\] ", "", str(error)).partition(". ")[0]


def _zeros(units: int) -> Counts:
    nothing = (0,) * units
    return Counts(
        samples=0,
        rows=0,
        positions=0,
        fires=nothing,
        row_fires=nothing,
        nonfinite=nothing,
        maxima=(None,) * units,
        output_sums=(0.0,) * units,
    )


def _integers(counts: Counts) -> list[int]:
    return [counts.samples, counts.rows, counts.positions, *counts.fires, *counts.row_fires, *counts.nonfinite]


def _taker(values: Tensor) -> Callable[[int], tuple[Any, ...]]:
    """A function that takes the next so many values."""
    rest = iter(values.tolist())
    return lambda size: tuple(next(rest) for _ in range(size))
