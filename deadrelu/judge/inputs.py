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
from deadrelu.text.wording import count, number

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
    if not inputs.batch_norms:
        yield from _odd_size(inputs)
    elif inputs.samples >= FEWEST:
        off = [said for norm in inputs.batch_norms if (said := _compared(norm))]
        if off:
            yield f"{off[0]}. {len(off):,} of {count(len(inputs.batch_norms), 'batch norm')} got something else."


def _odd_size(inputs: Inputs) -> Iterator[str]:
    """What is wrong with inputs of which nothing but their size is known."""
    if inputs.mean is None or inputs.std is None or inputs.min is None or inputs.max is None:
        return
    size = math.hypot(inputs.mean, inputs.std)
    if size > LARGE or 0 < size < SMALL:
        where = inputs.layer or "the first layer"
        yield (
            f"The inputs are {'large' if size > LARGE else 'small'}: what enters {where} lies in"
            f" {number(inputs.min)}..{number(inputs.max)}, with a root mean square of {number(size)}. Was the model"
            " trained on such values?"
        )


def _compared(norm: NormScale) -> str:
    """How what a batch norm got differs from what it got in training; nothing if it hardly does."""
    shift, ratio = norm.mean_shift, norm.variance_ratio
    if shift is None or ratio is None or (shift <= SHIFT and 1 / RATIO <= ratio <= RATIO):
        return ""
    return (
        f"What enters {norm.layer or 'the first batch norm'} is not what it got in training: in the median channel the"
        f" variance is {number(ratio)} times the running one, and the mean is off by {number(shift)} deviations"
    )
