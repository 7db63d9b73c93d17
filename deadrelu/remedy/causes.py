"""Why the units of a site died, judged by how far below firing they stay and by the layer before them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median
from typing import Literal

from deadrelu.activations import BY_NAME
from deadrelu.report import SiteStats
from deadrelu.report.advice import Remedy
from deadrelu.text.wording import count

NEAR = 0.1
"""Dead units are near to firing if their largest pre-activation is within this share of the live units' median peak."""

FAR = 0.3
"""Beyond this share they are far from firing."""

_NORM = re.compile(r"(?:^|[._])(?:bn|norm|batchnorm|downsample\.1)\d*$|norm\d*$", re.IGNORECASE)
_FIXED_EDGE = ("relu", "relu6", "hardswish")


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How far dead units stay below the edge above which the activation fires, in units of the pre-activation.

    `nearest`, `middle` (the median) and `farthest` describe the dead units' largest pre-activations; `peak` is the
    median of the live units' (None if no unit is live). All are measured from the edge.
    """

    nearest: float
    middle: float
    farthest: float
    peak: float | None

    @property
    def verdict(self) -> Literal["near", "far", "between"]:
        """How far that is on the scale of the live units; "between" where no unit is live."""
        if self.peak is None or self.peak <= 0:
            return "between"
        share = -self.middle / self.peak
        return "near" if share <= NEAR else "far" if share >= FAR else "between"


def depth(stats: SiteStats) -> Depth | None:
    """The depth of the dead units; None where the edge is unknown (hardtanh, shrinkages) or no dead unit is below."""
    if stats.site.op not in _FIXED_EDGE:
        return None
    region, dead = BY_NAME[stats.site.op].region, set(stats.dead_units)
    if region is None:
        return None
    edge = region(()).low
    below = [z - edge for u in stats.dead_units if (z := stats.max_preactivation[u]) is not None and z <= edge]
    live = [z - edge for u, z in enumerate(stats.max_preactivation) if z is not None and u not in dead]
    if not below:
        return None
    return Depth(nearest=max(below), middle=median(below), farthest=min(below), peak=median(live) if live else None)


def above_cap(stats: SiteStats) -> int:
    """How many dead units of a ReLU6 have pre-activations at or above 6: a leak below 0 does not help those."""
    if stats.site.op != "relu6":
        return 0
    seen = (stats.max_preactivation[unit] for unit in stats.dead_units)
    return sum(z is not None and z >= 6 for z in seen)


def remedy_for_cause(stats: SiteStats) -> Remedy:
    """The remedy for the cause, chosen by the depth of the dead units and the layer before them."""
    before = f"`{stats.site.after}`" if stats.site.after else "the layer before"
    deep = depth(stats)
    if capped := above_cap(stats):
        return Remedy(
            title=f"Scale down the output of {before}",
            why=f"{count(capped, 'dead unit')} reached 6 and above, where ReLU6 is flat; a leak below 0 does not help"
            " them. Check the scale of the inputs and of the weights, and lower the learning rate.",
        )
    if deep is None:
        return Remedy(
            title="Lower the learning rate, with a warm-up, and clip gradients",
            why=f"Too large a step moves the weights or the bias of {before} to where no input reaches the active"
            " range.",
        )
    if stats.site.after and _NORM.search(stats.site.after):
        return Remedy(
            title=f"Check the weight and bias of {before}",
            why=f"{_figures(deep)} Here only the layer's own weight and bias decide that: the bias is far below 0, or"
            " the weight decayed to nothing. Set the bias to 0 and lower its learning rate.",
        )
    if deep.verdict == "near":
        return Remedy(
            title=f"Raise the bias of {before} a little, and continue training with a lower learning rate",
            why=f"{_figures(deep)} That is close: a bias raised by that much wakes a unit.",
        )
    if deep.verdict == "far":
        return Remedy(
            title="Train again with a lower learning rate, a warm-up, and clipped gradients",
            why=f"{_figures(deep)} That is far: a spike of the learning rate or one large gradient can push the bias"
            f" or weights of {before} there.",
            python=CLIP,
        )
    return Remedy(
        title="Train again with a lower learning rate and a warm-up",
        why=f"{_figures(deep)} Steps that were too large pushed the bias or weights of {before} there; try to start"
        " its bias at 0 or a little above.",
    )


CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
"""The line that clips gradients in a training loop, after `backward()`."""


def _figures(deep: Depth) -> str:
    """The depth in words."""
    if deep.nearest == deep.farthest:
        where = f"Dead units stay {-deep.middle:.2g} below firing"
    else:
        span = f"from {-deep.nearest:.2g} to {-deep.farthest:.2g}"
        where = f"Dead units stay {-deep.middle:.2g} below firing (median; {span})"
    return where + (f", while live units peak {deep.peak:.2g} above." if deep.peak and deep.peak > 0 else ".")


def _number(value: float) -> str:
    """A number with three digits and a real minus sign."""
    return f"{value:.3g}".replace("-", "−")


def remedy_for_dead_site(stats: SiteStats) -> Remedy:
    """The remedy where no unit of a site fires: check its pre-activations and the layer that makes them."""
    before = f"`{stats.site.after}`" if stats.site.after else "the layer before"
    seen = [z for z in stats.max_preactivation if z is not None]
    why = f"Its largest pre-activation was {_number(max(seen))}. " if seen else ""
    return Remedy(
        title=f"Find the cause first: check the weights, the bias and the inputs of {before}",
        why=f"{why}Check whether the inputs are scaled as in training, whether the bias is far below 0, and"
        " whether all weights have one sign or are 0.",
    )
