"""Whether what entered the model looks like what it was trained on: by its batch norms, else by its size alone.

A batch norm keeps the mean and the variance of what it got in training. On data prepared in the same way both are near
the running ones in the median channel: |mean − running mean| is a small part of a standard deviation, and the ratio of
the variances near 1. Pixels of 0..255 in place of 0..1 make that ratio 65,025; where a mean and a standard deviation of
about 0.45 and 0.23 (ImageNet's) were not taken out it is 0.05. Data of another kind, prepared rightly, stays within the
limits here, which are ours. A model without a trained batch norm says nothing of its training: then only inputs are
named that hardly any training uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from deadrelu.report.causes import Inputs, NormScale
from deadrelu.text.wording import number

SHIFT = 1.0
"""So many standard deviations may the mean be off."""

RATIO = 5.0
"""So many times may the variance be larger or smaller."""

LARGE, SMALL = 30.0, 0.01
"""Inputs with a root mean square beyond these are not scaled to about 1: pixels of 0..255 have one of about 100."""

FEWEST = 8
"""On fewer samples no batch norm is judged."""


def odd_inputs(inputs: Inputs) -> Iterator[str]:
    """Yield what looks wrong about the inputs, in a sentence; nothing if they look right."""
    if inputs.batch_norms:
        off = [norm for norm in inputs.batch_norms if _is_off(norm)] if inputs.samples >= FEWEST else []
        if off:
            first, rest = off[0], len(inputs.batch_norms)
            what = f"What enters {_named(first.layer, 'the first batch norm')} is not what it got in training"
            yield f"{what}: {_compared(first)}, in the median channel. {len(off)} of {rest} batch norms are off."
        return
    size = math.hypot(inputs.mean, inputs.std)
    if size > LARGE or 0 < size < SMALL:
        where = _named(inputs.layer, "the first layer")
        are = "large" if size > LARGE else "small"
        yield (
            f"The inputs are {are}: what enters {where} lies in {_span(inputs)}, with a root mean square of"
            f" {number(size)}. Was the model trained on such values?"
        )


def _is_off(norm: NormScale) -> bool:
    """Whether what a batch norm got is far from its running statistics."""
    return norm.mean_shift > SHIFT or not 1 / RATIO <= norm.variance_ratio <= RATIO


def _compared(norm: NormScale) -> str:
    """How far off what a batch norm got is."""
    return (
        f"its variance is {number(norm.variance_ratio)} times the running one, and its mean is off by"
        f" {number(norm.mean_shift)} standard deviations"
    )


def _span(inputs: Inputs) -> str:
    return f"{number(inputs.min)}..{number(inputs.max)}"


def _named(layer: str | None, otherwise: str) -> str:
    return layer or otherwise
