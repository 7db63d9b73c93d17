"""Why the units of a site died, by its figures: how far below firing they stay, and what comes before them."""

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
"""Dead units whose largest pre-activation lies within this share of the live units' median peak are near to firing."""

FAR = 0.3
"""Beyond this share they are far from it."""

_NORM = re.compile(r"(?:^|[._])(?:bn|norm|batchnorm|downsample\.1)\d*$|norm\d*$", re.IGNORECASE)
_FIXED_EDGE = ("relu", "relu6", "hardswish")


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How far the dead units stay below the edge where the activation starts to fire, in units of the pre-activation.

    `nearest`, `middle` and `farthest` are of the dead units' largest pre-activations, `peak` is the median of the live
    units' (None where none lives). All count from the edge.
    """

    nearest: float
    middle: float
    farthest: float
    peak: float | None

    @property
    def verdict(self) -> Literal["near", "far", "between"]:
        """How far that is, by the scale of the live units; of a wholly dead layer, nothing can be said by scale."""
        if self.peak is None or self.peak <= 0:
            return "between"
        share = -self.middle / self.peak
        return "near" if share <= NEAR else "far" if share >= FAR else "between"


def depth(stats: SiteStats) -> Depth | None:
    """How deep the dead units lie; None where the edge is not known (hardtanh, shrinkages) or none of them is below."""
    if stats.site.op not in _FIXED_EDGE:
        return None
    edge, dead = BY_NAME[stats.site.op].region(()).low, set(stats.dead_units)
    below = [z - edge for u in stats.dead_units if (z := stats.max_preactivation[u]) is not None and z <= edge]
    live = [z - edge for u, z in enumerate(stats.max_preactivation) if z is not None and u not in dead]
    if not below:
        return None
    return Depth(nearest=max(below), middle=median(below), farthest=min(below), peak=median(live) if live else None)


def above_cap(stats: SiteStats) -> int:
    """How many dead units of a ReLU6 saw pre-activations at or above 6: a leak below 0 does nothing for those."""
    if stats.site.op != "relu6":
        return 0
    seen = (stats.max_preactivation[unit] for unit in stats.dead_units)
    return sum(z is not None and z >= 6 for z in seen)


def remedy_for_cause(stats: SiteStats) -> Remedy:
    """What to do about the cause, from how deep the dead units lie and what comes before them."""
    before = f"`{stats.site.after}`" if stats.site.after else "the layer before"
    deep = depth(stats)
    if capped := above_cap(stats):
        return Remedy(
            title=f"Scale down what {before} gives",
            why=f"{count(capped, 'dead unit')} reached 6 and above, where ReLU6 is flat; a leak below 0 does not reach"
            " them. Look at the scale of the inputs and of the weights, and lower the learning rate.",
        )
    if deep is None:
        return Remedy(
            title="Lower the learning rate, with a warm-up, and clip gradients",
            why=f"Too large a step moves the weights or the bias of {before} to where no input reaches the active"
            " range.",
        )
    if stats.site.after and _NORM.search(stats.site.after):
        return Remedy(
            title=f"Look at the weight and bias of {before}",
            why=f"{_figures(deep)} After a normalisation its bias and weight alone decide that: a bias far below 0, or"
            " a weight that decayed to nothing. Set the bias to 0 there and lower its learning rate.",
        )
    if deep.verdict == "near":
        return Remedy(
            title=f"Raise the bias of {before} a little, and train on with a lower learning rate",
            why=f"{_figures(deep)} That is near: a bias that is higher by so much wakes a unit.",
        )
    if deep.verdict == "far":
        return Remedy(
            title="Train again with a lower learning rate, a warm-up, and clipped gradients",
            why=f"{_figures(deep)} That is far: the bias or weights of {before} were thrown there, as a spike of the"
            " learning rate or one large gradient does.",
            python=CLIP,
        )
    return Remedy(
        title="Train again with a lower learning rate and a warm-up",
        why=f"{_figures(deep)} Too large steps drove the bias or weights of {before} there; see whether its bias can"
        " start at 0 or a little above.",
    )


CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
"""The line of a training loop, after `backward()`, that clips gradients."""


def _figures(deep: Depth) -> str:
    """The depth in words."""
    if deep.nearest == deep.farthest:
        where = f"What is dead stays {-deep.middle:.2g} below firing"
    else:
        span = f"from {-deep.nearest:.2g} to {-deep.farthest:.2g}"
        where = f"The dead units stay {-deep.middle:.2g} below firing (median; {span})"
    return where + (f", while the live ones peak {deep.peak:.2g} above." if deep.peak and deep.peak > 0 else ".")


def _number(value: float) -> str:
    """Three digits, with a real minus."""
    return f"{value:.3g}".replace("-", "−")


def remedy_for_dead_site(stats: SiteStats) -> Remedy:
    """Where to look when no unit of a site fires: at its pre-activations, and at what gives them."""
    before = f"`{stats.site.after}`" if stats.site.after else "the layer before"
    seen = [z for z in stats.max_preactivation if z is not None]
    why = f"Its largest pre-activation of all was {_number(max(seen))}. " if seen else ""
    return Remedy(
        title=f"Find the cause first: look at the weights, the bias and the inputs of {before}",
        why=f"{why}See whether the inputs are scaled as in training, whether the bias was thrown far below 0, and"
        " whether the weights are all of one sign or all 0.",
    )
