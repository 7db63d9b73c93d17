"""The loop: run a program over batches, tally every activation call, and turn the tallies into site statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from deadrelu.errors import DeadreluError, ModelError, NothingMeasuredError, UsageError
from deadrelu.judge.statistics import describe
from deadrelu.measure.kernels import Scratch
from deadrelu.measure.padding import Padding
from deadrelu.measure.tally import Tally, UncountableError
from deadrelu.programs.code import blame
from deadrelu.programs.program import Batch, CallSite, Features, Program, Run
from deadrelu.report import Site, SiteStats, Skipped

log = logging.getLogger("deadrelu")

Progress = Callable[[int], None]
"""Called after each batch with the number of samples seen so far."""


@dataclass(frozen=True)
class Measurement:
    """What one pass over the data showed."""

    sites: tuple[SiteStats, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    batches: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how to read it.

    `sites` and `skip_sites` are globs over site ids. `feature_axes` maps globs to axes. `rare_below` and `confidence`
    are fractions.
    """

    sites: tuple[str, ...] = ()
    skip_sites: tuple[str, ...] = ()
    feature_axes: Mapping[str, int] | None = None
    rare_below: float = 0.01
    confidence: float = 0.95


def measure(program: Program, batches: Iterable[Batch], plan: Plan, progress: Progress | None = None) -> Measurement:
    """Run every batch once and count. Memory grows with the units, not with the batches.

    Raises `NothingMeasuredError` without a batch or a site, `ModelError` where the forward pass raises, `UsageError`
    where a glob matches no site.
    """
    tallies: dict[CallSite, Tally] = {}
    lost: dict[CallSite, str] = {}
    scratch = Scratch()
    samples = count = 0
    padded = False

    def observe(site: CallSite, z: Tensor) -> None:
        if site in lost:
            return
        try:
            if site not in tallies:
                tallies[site] = Tally(site, _features(site, z, plan), z, scratch)
            tally = tallies[site]
            for part, of in padding.parts(site, z, tally.features):
                tally.add(part, of)
        except UncountableError as error:
            lost[site] = str(error)

    with program.watched(observe) as run:
        for batch in (piece for whole in batches for piece in program.pieces(whole)):
            padding = Padding(batch, program.parameter_names)
            if padding.is_there and not padded:
                padded = True
                log.info("positions that attention_mask marks as padding are not counted")
            _run(run, batch, count)
            samples, count = samples + batch.samples, count + 1
            if progress is not None:
                progress(samples)
        skipped = [*program.skipped(), *(Skipped(id=s.id, op=s.op, reason=why) for s, why in lost.items())]
    if count == 0:
        raise NothingMeasuredError("there was no data: not one batch", hint="look at what --data gives, and --samples")
    measured = [tally for site, tally in tallies.items() if site not in lost]
    chosen = _choose([tally.site.id for tally in measured], [s.id for s in skipped], plan)
    _warn_of_guesses([tally for tally in measured if tally.site.id in chosen])
    is_graph = program.kind != "eager"  # where every call can be swapped, a functional one too
    stats = tuple(_stats(tally, plan, is_graph=is_graph) for tally in measured if tally.site.id in chosen)
    left = tuple(s for s in skipped if s.id in chosen)
    if not stats and not left:
        raise NothingMeasuredError(
            "the model made no activation call with a flat region (ReLU and its kin)",
            hint="GELU, SiLU, Tanh and x*(x>0) are not measured; a ReLU that was never called would be listed",
        )
    return Measurement(stats, left, samples, count)


def _run(run: Run, batch: Batch, index: int) -> None:
    """One forward pass; whatever the model raises becomes one line."""
    shapes = [tuple(x.shape) for x in (*batch.args, *batch.kwargs.values()) if isinstance(x, Tensor)]
    where = f"the model raised on batch {index + 1}, with input {', '.join(map(str, shapes)) or 'of no tensor'}"
    try:
        run(batch)
    except DeadreluError:
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError("the device ran out of memory", hint="give a smaller --batch-size") from error
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{where}: {blame(error)}", hint="check that the data has the shape and type which the model takes"
        ) from error


def _features(site: CallSite, z: Tensor, plan: Plan) -> Features:
    """The feature dimensions of a site: what --feature-axis says, else what the program found."""
    for glob, axis in (plan.feature_axes or {}).items():
        if fnmatchcase(site.id, glob) or fnmatchcase(site.module, glob):
            if not -z.ndim <= axis < z.ndim:
                raise UsageError(
                    f"{site.id} has {z.ndim} dimensions, and no feature axis {axis}",
                    hint=f"its shape is {tuple(z.shape)}",
                )
            return Features((axis,))
    return site.features


def _choose(sites: list[str], skipped: list[str], plan: Plan) -> set[str]:
    """The ids that --site and --skip-site leave."""
    every = [*sites, *skipped]
    for glob in (*plan.sites, *plan.skip_sites):
        if not any(fnmatchcase(site, glob) for site in every):
            shown = ", ".join(every[:12]) + (" …" if len(every) > 12 else "")
            raise UsageError(f"no site matches {glob!r}", hint=f"the sites are {shown}")
    wanted = {s for s in every if not plan.sites or any(fnmatchcase(s, glob) for glob in plan.sites)}
    return {s for s in wanted if not any(fnmatchcase(s, glob) for glob in plan.skip_sites)}


def _warn_of_guesses(tallies: list[Tally]) -> None:
    """Say where the feature axis was guessed: the wrong one would make units of positions."""
    guessed = [t for t in tallies if not t.features.certain]
    for tally in guessed:
        log.warning(
            "the feature axis of %s was guessed to be %d from its shape %s; --feature-axis '%s=AXIS' sets it",
            tally.site.id, tally.axis, tally.shape, tally.site.id,
        )  # fmt: skip


def _stats(tally: Tally, plan: Plan, *, is_graph: bool) -> SiteStats:
    site, counts = tally.site, tally.counts()
    if site.rectified:  # how near a silent unit came to waking is not known
        counts = replace(counts, maxima=tuple(value or None for value in counts.maxima))
    return describe(
        Site(
            id=site.id,
            op=site.op,
            module=site.module,
            call=site.call,
            calls=site.group.calls,
            after=site.after,
            source=site.source,
            swappable=is_graph or not site.functional,
            feature_axis=tally.axis,
            shape=tally.shape,
            units=tally.units,
        ),
        counts,
        rare_below=plan.rare_below,
        confidence=plan.confidence,
    )
