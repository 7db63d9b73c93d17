"""The loop: run a program over batches, tally every activation call, and turn the tallies into site statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from deadrelu.errors import ModelError, NothingMeasuredError, UsageError
from deadrelu.judge.early import Stopped
from deadrelu.judge.globs import Named, Selector, matches, without_match
from deadrelu.judge.statistics import compute_stats
from deadrelu.measure.counting import Counting
from deadrelu.measure.looks import Looks, Stop
from deadrelu.measure.padding.found import NOTHING, PaddingFound
from deadrelu.measure.tallied import Part
from deadrelu.programs.code import users_code
from deadrelu.programs.program import Batch, CallSite, Features, Program, Run
from deadrelu.programs.shard import UNSHARDED
from deadrelu.report import Leaky, SiteStats, Skipped, Stats

if TYPE_CHECKING:
    from deadrelu.measure.distributed import Ranks  # torch.distributed is imported by who has ranks

log = logging.getLogger("deadrelu")

Progress = Callable[[int], None]
"""Called after each batch with the number of samples seen so far."""


Unmatched = Literal["error", "note"]
"""What a glob is that matches no site: an error, or a note where the same settings serve several models."""


@dataclass(frozen=True)
class Measurement:
    """What one pass over the data showed."""

    sites: tuple[SiteStats, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    batches: int
    leaky: tuple[Leaky, ...] = ()
    stopped: Stopped | None = None
    padding: PaddingFound = NOTHING


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how to read it.

    `sites` and `skip_sites` are globs over site ids. `feature_axes` maps globs to axes, None for a single unit.
    `rare_below` and `confidence` are fractions. `stats` says how much is measured. `selectors` are the globs of the
    policy; `unmatched` says what one is that matches no site, of theirs or ours.
    """

    sites: tuple[str, ...] = ()
    skip_sites: tuple[str, ...] = ()
    feature_axes: Mapping[str, int | None] | None = None
    rare_below: float = 0.01
    confidence: float = 0.95
    stats: Stats = "full"
    selectors: tuple[Selector, ...] = ()
    unmatched: Unmatched = "error"

    def wants(self, site: Named) -> bool:
        """Whether this site is to be reported."""
        chosen = not self.sites or any(matches(glob, site) for glob in self.sites)
        return chosen and not any(matches(glob, site) for glob in self.skip_sites)


def measure(
    program: Program,
    batches: Iterable[Batch],
    plan: Plan,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    stop: Stop | None = None,
) -> Measurement:
    """Run every batch once and count. Memory grows with the units, not with the batches.

    `stop` is asked before a batch whether the verdict is clear without it, not with `ranks`.

    With `ranks`, `batches` are those of this process's shard, and every process gets the measurement of the whole.

    Raises `NothingMeasuredError` without a batch or a site, `ModelError` where the forward pass raises, `UsageError`
    where a glob matches no site.
    """
    samples = count = 0
    stopped: Stopped | None = None
    first_batch = ""
    shard = ranks.shard if ranks else UNSHARDED
    counting = Counting(program, lambda site, z: _features(site, z, plan), plan.stats)
    looks = Looks(stop, plan.wants)

    with program.watched(counting.observe) as run, counting.padding.watching():
        for at, batch in _pieces(program, zip(shard.indices(), batches, strict=False)):
            stopped = looks.verdict(count, counting.tallies(), program)
            if stopped:
                break
            if ranks and not first_batch:
                first_batch = ranks.opening(batch)
            is_counted = shard.owns(at[0])
            with counting.forward(batch, at, is_counted=is_counted):
                _run(run, batch, max(at[0], count))
            if not is_counted:
                continue
            samples, count = samples + batch.samples, count + 1
            if progress is not None:
                progress(samples * shard.world_size)
        counting.end()
        skipped = (*program.skipped(), *counting.skipped())
    is_graph = program.kind != "eager"  # where every call can be swapped, a functional one too
    found = Part(
        sites=counting.sites(is_graph=is_graph),
        skipped=skipped,
        leaky=program.leaky(),
        samples=samples,
        batches=count,
        opening=first_batch,
        padding=counting.padding.found,
    )
    if ranks:
        found = ranks.unite(found)
    if found.batches == 0:
        raise NothingMeasuredError("there was no data: not one batch", hint="look at what --data gives, and --samples")
    _check_globs(found, plan, is_whole=stopped is None)
    measured = [t for t in found.measured if plan.wants(t.site)]
    stats = tuple(
        compute_stats(t.site, t.counts, rare_below=plan.rare_below, confidence=plan.confidence, stats=plan.stats)
        for t in measured
    )
    left = tuple(s for s in found.unmeasured if plan.wants(s))
    leaky = tuple(s for s in found.leaky if plan.wants(s))
    if not stats and not left and not leaky:
        raise NothingMeasuredError(
            "the model made no activation call with a flat region (ReLU and its kin)",
            hint="Tanh, Sigmoid and x*(x>0) are not measured; a ReLU that was never called would be listed",
        )
    return Measurement(stats, left, found.samples, found.batches, leaky, stopped, found.padding)


def _pieces(program: Program, numbered: Iterable[tuple[int, Batch]]) -> Iterator[tuple[tuple[int, int], Batch]]:
    """Each piece of each batch, with the numbers of both."""
    for index, whole in numbered:
        for number, piece in enumerate(program.pieces(whole)):
            yield (index, number), piece


def _run(run: Run, batch: Batch, index: int) -> None:
    """One forward pass; whatever the model raises becomes one line."""

    def failed(why: str) -> ModelError:
        given = (x for x in (*batch.args, *batch.kwargs.values()) if isinstance(x, Tensor))
        shapes = ", ".join("nested" if x.is_nested else str(tuple(x.shape)) for x in given) or "of no tensor"
        return ModelError(
            f"the model raised on batch {index + 1}, with input {shapes}: {why}",
            hint="check that the data has the shape and type which the model takes",
        )

    with users_code(failed):
        try:
            run(batch)
        except torch.OutOfMemoryError as error:
            raise ModelError("the device ran out of memory", hint="give a smaller --batch-size") from error


def _features(site: CallSite, z: Tensor, plan: Plan) -> Features:
    """The feature dimensions of a site: what --feature-axis says, else what the program found."""
    for glob, axis in (plan.feature_axes or {}).items():
        if matches(glob, site) or matches(glob, site.module):
            if axis is None:
                return Features((), "flag", has_samples=site.features.has_samples)
            if not -z.ndim <= axis < z.ndim:
                raise UsageError(
                    f"--feature-axis: {site.id} has no axis {axis}: its pre-activation has the shape {tuple(z.shape)}",
                    hint=f"choose from {', '.join(site.axes or map(str, range(z.ndim)))}, or none for a single unit",
                )
            return Features((axis,), "flag", has_samples=site.features.has_samples)
    return site.features


def _check_globs(found: Part, plan: Plan, *, is_whole: bool) -> None:
    """Raise `UsageError` for a glob that matches no site of the model, or note it.

    A typo would switch the gate off without a word. A scan that stopped early may not have met the site yet.
    """
    sites: list[Named] = [*(t.site for t in found.measured), *found.unmeasured, *found.leaky]
    if not sites:
        return
    own = chain(
        (Selector(glob=glob, written=f"--site {glob}") for glob in plan.sites),
        (Selector(glob=glob, written=f"--skip-site {glob}") for glob in plan.skip_sites),
        (
            Selector(glob=glob, written=f"--feature-axis {glob}={'none' if axis is None else axis}", takes_modules=True)
            for glob, axis in (plan.feature_axes or {}).items()
        ),
    )
    errors = without_match((*own, *plan.selectors), sites, [t.site.module for t in found.measured])
    if errors and plan.unmatched == "error" and is_whole:
        raise errors[0]
    if plan.sites and not any(plan.wants(site) for site in sites):
        raise errors[0] if errors else UsageError("--skip-site leaves no site to measure", hint="leave one of them out")
    for error in errors:
        log.info("%s, so it has no effect on this model", error.message)
