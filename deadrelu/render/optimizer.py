"""What the optimizer of a training checkpoint says of its model, in words."""

from __future__ import annotations

from deadrelu.report.optimizer import QUIET_STEPS, OptimizerInfo, QuietUnits
from deadrelu.text.wording import count, ranges

HINT = "A hint, no verdict: of the units that are quiet so, about one in seven fires on data. A scan counts them."


def optimizer_settings(optimizer: OptimizerInfo) -> str:
    """Return where an optimizer is in its file, how far it came and with which settings: a part of a sentence."""
    parts = [f"at {optimizer.key!r}"] if optimizer.key else []
    if optimizer.steps is not None:
        parts.append(f"step {optimizer.steps:,}")
    for name, values in (("learning rate", optimizer.lr), ("weight decay", optimizer.weight_decay)):
        if values:
            parts.append(f"{name} {' and '.join(f'{value:g}' for value in values)}")
    return ", ".join(parts)


def quiet_in(layer: QuietUnits) -> str:
    """Return which units of a layer are quiet, and since when: a sentence."""
    units = f"{len(layer.units):,} of {count(layer.size, 'unit')}"
    return (
        f"{layer.parameter}: {units} had no gradient in the latest {QUIET_STEPS} steps or more{since(layer)}:"
        f" {ranges(layer.units)}"
    )


def since(layer: QuietUnits) -> str:
    """Return when the units fell silent, as far as the moments tell: ", since about step 30 to 210"."""
    steps = sorted(step for step in layer.since if step is not None)
    if not steps:
        return ""
    span = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    return f", since about step {span}{' where the moments tell' if len(steps) < len(layer.since) else ''}"
