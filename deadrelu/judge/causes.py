"""Why each dead unit is dead: what keeps its pre-activation down, judged by its layer's weights and by the data.

Of a linear or convolution layer z = w·x + b at each position, so the largest w·x is the largest z minus b, and the mean
of w·x is the mean z minus b. A norm after the layer makes it z = γ·û + β.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deadrelu.report import SiteStats
from deadrelu.report.causes import Cause, Evidence, UnitCause, Wakes

COLLAPSED = 0.03
"""Weights, or the γ of a norm, have collapsed at or below this share of those of the layer's median unit."""

WANTED = 0.01
"""What wakes a unit is chosen to do so on this share of the samples: below it, it would be rare."""

_DIGITS = range(1, 6)
_MARGIN = 1e-5

Found = tuple[Cause, Evidence]


@dataclass(frozen=True, kw_only=True)
class UnitLayer:
    """The layer and the norm of one unit, as far as they are known.

    `bias` is that of a linear or convolution layer, `size` the L2 norm of the unit's weights and `usual_size` the
    median over the layer's live units. `largest` is the largest weight on an input that is ever above 0, with the sign
    that the norm gives it, and `least_input` the smallest input. `constant_reads` are the input features that the unit
    reads with a weight other than 0, if each of them had one value; of all `inputs` features, made by the layer
    `input_after`. Inputs are those of the pass in which the site was met, the first as a rule.

    A norm has `gamma`, `beta` and the median |γ| of the live units, `usual_gamma`. With the running statistics of a
    batch norm z = scale·(w·x + bias) + shift; otherwise both are None.

    `parameter` is the name of the bias, or of the norm's, if nothing else of the model depends on it.
    """

    bias: float | None = None
    size: float | None = None
    usual_size: float = 0.0
    largest: float = 0.0
    least_input: float = 0.0
    constant_reads: tuple[int, ...] | None = None
    inputs: int = 0
    input_after: str | None = None
    gamma: float | None = None
    beta: float | None = None
    usual_gamma: float = 0.0
    scale: float | None = 1.0
    shift: float | None = 0.0
    parameter: str | None = None

    @property
    def has_norm(self) -> bool:
        """Whether a norm makes the pre-activation."""
        return self.gamma is not None


@dataclass(frozen=True, kw_only=True)
class SilentUnit:
    """The pre-activations of a unit that fires for `low < z < high` and did so nowhere, on `rows` samples.

    `mean` is over all positions; `tops` are the largest of the maxima by sample, largest first, and `bottoms` the
    smallest of the minima, smallest first: all of them, or as many as were kept.
    """

    unit: int
    low: float
    high: float
    rows: int
    mean: float
    tops: Sequence[float]
    bottoms: Sequence[float]
    layer: UnitLayer | None = None

    @property
    def most(self) -> float:
        """The largest pre-activation."""
        return self.tops[0]

    @property
    def least(self) -> float:
        """The smallest pre-activation."""
        return self.bottoms[0]


def find_causes(sites: Sequence[SiteStats], silent: Sequence[Sequence[SilentUnit]]) -> list[tuple[UnitCause, ...]]:
    """Return, for each site, the cause of each of its dead units; `silent` are the figures of these, site by site.

    The first that holds is named:

    - cap: every pre-activation is at or above the upper edge of the activation (6 of a ReLU6).
    - weights: they have collapsed, beside those of the layer's other units (`COLLAPSED`).
    - upstream: all that it reads is the output of dead units, or comes after a site that is wholly dead.
    - weights: none is positive, but on inputs that are always 0; no input is negative; the bias does not make it fire.
    - norm: γ has collapsed, or without β it would fire.
    - bias: without the bias it would fire.
    - input mean: with centred inputs, w·(x − μ) + b, it would fire.

    Where the bias and the input mean hold it down only together, the larger is named; "unknown" where no layer is known
    that makes the pre-activation, or where it lies on both sides of the part in which the activation fires.
    """
    out = []
    for place, (stats, units) in enumerate(zip(sites, silent, strict=True)):
        known, upstream = {unit.unit: unit for unit in units}, _Upstream(sites[:place])
        out.append(tuple(_cause(unit, known.get(unit), upstream) for unit in stats.dead_units))
    return out


class _Upstream:
    """The sites that ran before one."""

    def __init__(self, earlier: Sequence[SiteStats]) -> None:
        self._earlier = earlier

    def reads(self, layer: UnitLayer) -> Evidence | None:
        """The dead units that are all that a unit reads, or the wholly dead site before it; None if there are none."""
        if not layer.constant_reads:
            return None
        nearest = [stats for stats in reversed(self._earlier) if stats.dead]
        nearest.sort(key=lambda stats: stats.site.after != layer.input_after)
        for stats in nearest:
            width, rest = divmod(layer.inputs, stats.site.units)
            units = {feature // width for feature in layer.constant_reads} if width and not rest else None
            if units is not None and units <= set(stats.dead_units):
                return {"site": stats.site.id, "units": tuple(sorted(units))}
        whole = next((stats for stats in reversed(self._earlier) if stats.dead == stats.site.units), None)
        return None if whole is None else {"site": whole.site.id, "units": whole.dead_units}


def _cause(unit: int, z: SilentUnit | None, upstream: _Upstream) -> UnitCause:
    """The cause of one dead unit."""
    if z is not None and z.least >= z.high:
        evidence = {"min_preactivation": z.least, "cap": z.high}
        return UnitCause(unit=unit, cause="cap", evidence=evidence, wakes=_lowered(z))
    if z is not None and z.layer is not None and z.most <= z.low:
        cause, found = _below(z, z.layer, upstream)
        return UnitCause(unit=unit, cause=cause, evidence=found, wakes=_raised(z))
    why = "no linear, convolution or norm layer alone makes its pre-activation"
    if z is None:
        why = "its activation has no edge above which it fires, or only its output is seen"
    elif z.most > z.low:
        why = "its pre-activations lie on both sides of where the activation has a slope"
    return UnitCause(unit=unit, cause="unknown", evidence={"why": why})


def _below(z: SilentUnit, layer: UnitLayer, upstream: _Upstream) -> Found:
    """What keeps a unit below the edge."""
    if layer.size is not None and _is_collapsed(z, layer):
        return "weights", {"weight_norm": layer.size, "usual_weight_norm": layer.usual_size}
    if reads := upstream.reads(layer):
        return "upstream", reads
    if layer.size is not None and _never_positive(z, layer):
        return "weights", {"largest_weight": layer.largest, "min_input": layer.least_input}
    return _of_norm(z, layer) if layer.has_norm else _of_layer(z, layer.bias or 0.0)


def _is_collapsed(z: SilentUnit, layer: UnitLayer) -> bool:
    """Whether a unit's weights are next to nothing beside the others', or beside what they would have to outweigh."""
    assert layer.size is not None
    is_faint = layer.size <= COLLAPSED**2 and z.most - z.least <= 0.1 * (z.low - z.most)
    return layer.size <= COLLAPSED * layer.usual_size or is_faint


def _never_positive(z: SilentUnit, layer: UnitLayer) -> bool:
    """Whether no input that is not negative can make a unit fire."""
    if layer.scale is None or layer.shift is None or layer.largest > 0 or layer.least_input < 0:
        return False
    return layer.scale * (layer.bias or 0.0) + layer.shift <= z.low


def _of_norm(z: SilentUnit, layer: UnitLayer) -> Found:
    """What keeps a unit below the edge that a norm scales and shifts."""
    gamma, beta = layer.gamma or 0.0, layer.beta or 0.0
    evidence = {"gamma": gamma, "beta": beta, "beta_over_gamma": beta / abs(gamma) if gamma else None}
    if abs(gamma) <= COLLAPSED * layer.usual_gamma or not gamma or z.most - beta > z.low:
        return "norm", evidence
    pushed = (layer.scale or 0.0) * (layer.bias or 0.0)
    if pushed < 0 and z.most - pushed > z.low:
        return "bias", {"bias": layer.bias, "max_product": z.most - pushed, "mean_product": z.mean - pushed}
    if z.most - z.mean + beta > z.low or beta - z.mean > -beta:
        return "input mean", {**evidence, "mean_normalised": (z.mean - beta) / gamma}
    return "norm", evidence


def _of_layer(z: SilentUnit, bias: float) -> Found:
    """What keeps a unit below the edge that a linear or convolution layer makes."""
    products = {"bias": bias, "max_product": z.most - bias, "mean_product": z.mean - bias}
    if z.most - bias > z.low:
        return "bias", products
    if z.most - z.mean + bias > z.low or bias - z.mean > -bias:
        return "input mean", {**products, "max_centred": z.most - z.mean}
    return "bias", products


def _raised(z: SilentUnit) -> Wakes | None:
    """The bias to add that wakes a unit below the edge on at least `WANTED` of its samples, as far as that is known."""
    found = _step([z.low - top for top in z.tops], z.rows, z.low - z.least)
    if found is None or z.layer is None or z.layer.parameter is None or z.most + found[0] >= z.high:
        return None
    return Wakes(parameter=z.layer.parameter, add=found[0], samples=found[1])


def _lowered(z: SilentUnit) -> Wakes | None:
    """The bias to take away that wakes a unit above the cap."""
    found = _step([bottom - z.high for bottom in z.bottoms], z.rows, z.tops[0] - z.high)
    if found is None or z.layer is None or z.layer.parameter is None or z.least - found[0] <= z.low:
        return None
    return Wakes(parameter=z.layer.parameter, add=-found[0], samples=found[1])


def _step(short: Sequence[float], rows: int, farthest: float) -> tuple[float, int] | None:
    """A step that is larger than what `WANTED` of the `rows` are short of, and how many are short of less.

    `short` is how much the nearest rows are short of, in order, and `farthest` what none is short of more. The step has
    few digits, but enough that rounding does not decide about a row.
    """
    scale = max(map(abs, (short[0], farthest)))
    if not math.isfinite(scale):
        return None
    if farthest - short[0] <= 100 * _MARGIN * scale:  # all rows are alike
        return _rounded_up(farthest + 200 * _MARGIN * scale, 2) or _MARGIN, rows
    is_whole = len(short) == rows
    wanted = min(max(1, math.ceil(WANTED * rows)), len(short) if is_whole else len(short) // 2)
    for nearer, farther in pairwise([*short[wanted - 1 :], *([math.inf] if is_whole else [])]):
        low, high = nearer + _MARGIN * scale, farther - _MARGIN * scale
        for digits in _DIGITS:
            step = _rounded_up(low, digits)
            if low <= step <= high and step > 0:
                return step, sum(need < step for need in short)
    return None


def _rounded_up(value: float, digits: int) -> float:
    """The next number up with so many digits."""
    if value <= 0:
        return 0.0
    place = digits - 1 - math.floor(math.log10(value))
    return float(f"{math.ceil(value * 10.0**place - 1e-9)}e{-place}")
