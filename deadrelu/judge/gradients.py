"""The figures of a backward pass, from its sums; and when gradients count as vanished or exploded.

No paper gives a limit, so both are set between networks that were measured, on the ratio of gradient norms between the
first and the last site. That ratio is what Glorot and Bengio (2010, "Understanding the difficulty of training deep
feedforward neural networks", section 4.2) ask to be near 1: all layers share one learning rate. Of 30 layers at their
initialisation it was 0.4 to 0.7 for ReLU with He's weights, 0.1 for tanh with Xavier's, 10 for a ResNet-18 with batch
norm; 1e-5 for ReLU with Xavier's weights, 1e-25 for sigmoid; 300 for batch norm without a shortcut, and 3e13 for ReLU
with three times He's weights. `tests/measure/test_gradient_limits.py` holds such networks against the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deadrelu.report import Report, SiteStats
from deadrelu.report.gradients import GradientNorms, Gradients, GradientSums, LossRecord

VANISHED = 1e-4
"""Below this ratio of the norm at the first site to that at the last, the first layers hardly learn."""

EXPLODED = 100.0
"""Above this ratio, a step that suits the last layers is far too long for the first."""


def with_gradients(stats: SiteStats, sums: GradientSums | None) -> SiteStats:
    """Return the figures of a site with those of its gradients.

    `gradient_rms` is the root of the mean of (dL/dz)² over all positions of all batches, L being the loss of each batch
    as the loss function reduces it. `zero_gradient_units` are those whose dL/dz was exactly 0 at each position.

    `gradient_score` is the score of GraMa (Liu et al. 2025, "Measure gradients, not activations!", arXiv 2505.24061):
    the unit's mean |dL/dh| over the mean of its layer, h being its output. Some code for the paper takes |dL/dz| or the
    gradient of the unit's weights in its place; those are zero where the unit is dead, while |dL/dh| says what it could
    contribute. It is None where the mean of the layer is 0 or not finite.
    """
    if sums is None or not stats.positions:
        return stats
    roots = [math.sqrt(square / stats.positions) for square in sums.squares]
    return replace(
        stats,
        gradient_rms=tuple([root if math.isfinite(root) else None for root in roots]),
        zero_gradient_units=tuple([unit for unit, is_zero in enumerate(sums.is_zero) if is_zero]),
        gradient_score=() if sums.sizes is None else _scores(sums.sizes),
    )


def summarise(record: LossRecord, sites: Sequence[SiteStats]) -> Gradients:
    """Return the figures of the whole model.

    `value` weighs the batches by their samples. The percentiles of the norms are interpolated, as NumPy does. `clip`,
    for `torch.nn.utils.clip_grad_norm_`, is the 95th percentile, rounded up to two digits: of 20 batches like these it
    leaves 19 as they are, and cuts the outliers, for which clipping is meant. Pascanu et al. (2013, "On the difficulty
    of training recurrent neural networks", section 3.2) choose the threshold by the norms that are seen, too: half to
    ten times their mean; AutoClip (Seetharaman et al. 2020) takes a percentile of them.
    """
    samples = sum(batch.samples for batch in record.batches)
    value = math.fsum(b.value * b.samples for b in record.batches) / samples if samples else math.nan
    norms = sorted(batch.norm for batch in record.batches)
    if not all(map(math.isfinite, norms)):
        norms = []
    p95 = _percentile(norms, 0.95)
    measured = [stats for stats in sites if stats.gradient_rms]
    first, last = (_root_mean_square(measured[at]) if measured else None for at in (0, -1))
    return Gradients(
        loss=record.loss,
        value=value if math.isfinite(value) else None,
        accuracy=record.right / record.predictions if record.predictions else None,
        norm=GradientNorms(median=_percentile(norms, 0.5), p95=p95, max=_percentile(norms, 1.0)),
        clip=_rounded_up(p95) if p95 else None,
        first_to_last=first / last if first is not None and last and len(measured) > 1 else None,
    )


@dataclass(frozen=True, kw_only=True)
class SiteRatio:
    """How much gradient passes from the last site of a report to the first: the `ratio` of their norms.

    The norm is over all positions of the units, so that a map of many positions is not taken for a vanishing gradient.
    """

    first: SiteStats
    last: SiteStats
    ratio: float


def flow_of(report: Report) -> SiteRatio | None:
    """Return how the gradient changes from the last site to the first; None where there are no two to compare."""
    measured = [stats for stats in report.sites if stats.gradient_rms]
    if len(measured) < 2:
        return None
    first, last = measured[0], measured[-1]
    norms = [_norm(stats) for stats in (first, last)]
    if norms[0] is None or not norms[1]:
        return None
    return SiteRatio(first=first, last=last, ratio=norms[0] / norms[1])


def site_gradient(stats: SiteStats) -> float | None:
    """Return the RMS of the gradient over all units of a site; None where it is not known."""
    return _root_mean_square(stats) if stats.gradient_rms else None


def clip_to_advise(report: Report) -> float | None:
    """Return the value to clip gradient norms at; None with a single batch, whose norm tells no outlier."""
    return report.gradients.clip if report.gradients is not None and report.data.batches > 1 else None


def starved_units(stats: SiteStats) -> tuple[int, ...]:
    """Return the units that fire but get no gradient: nothing that the loss depends on listens to them."""
    silent = {*stats.dead_units, *stats.nonfinite_units}
    return tuple(unit for unit in stats.zero_gradient_units if unit not in silent)


def _scores(sizes: Sequence[float]) -> tuple[float | None, ...]:
    mean = math.fsum(sizes) / len(sizes) if all(map(math.isfinite, sizes)) else math.nan
    return tuple([size / mean if mean and math.isfinite(mean) else None for size in sizes])


def _root_mean_square(stats: SiteStats) -> float | None:
    """The RMS over the units, which all have as many positions; None if one is not finite."""
    if None in stats.gradient_rms:
        return None
    return math.hypot(*(root for root in stats.gradient_rms if root is not None)) / math.sqrt(stats.site.units)


def _norm(stats: SiteStats) -> float | None:
    """The norm of the gradient at all positions of a site."""
    root = _root_mean_square(stats)
    return None if root is None else root * math.sqrt(stats.site.units * stats.positions)


def _percentile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which a share of the values lies, interpolated between two of them; None without values."""
    if not ascending:
        return None
    place = share * (len(ascending) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])


def _rounded_up(value: float) -> float:
    """The number with two digits that is next above a positive one."""
    digits = 1 - math.floor(math.log10(value))
    rounded = round(value, digits)
    return rounded if rounded >= value else round(rounded + 10.0**-digits, digits)
