"""Why each dead unit is dead: what keeps its pre-activation down, judged by its layer's weights and by the data.

Of a linear or convolution layer z = w·x + b at each position, so the largest w·x is the largest z minus b, and the mean
of w·x is the mean z minus b. A norm after the layer makes it z = γ·û + β.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deadrelu.report import SiteStats
from deadrelu.report.causes import Cause, CauseEvidence, UnitCause, Wakes

COLLAPSED = 0.03
"""Weights, or the γ of a norm, have collapsed at or below this share of those of the layer's median unit."""

WAKING_SHARE = 0.01
"""What wakes a unit is chosen to do so on this share of the samples: below it, it would be rare."""

_MARGIN = 1e-5

Found = tuple[Cause, CauseEvidence]


@dataclass(frozen=True, kw_only=True)
class UnitLayer:
    """The layer and the norm of one unit, as far as they are known.

    `bias` is that of a linear or convolution layer, and `size` the L2 norm of the unit's weights; `largest` is the
    largest weight, with the sign that the norm gives it, and `least_input` the smallest input of those with a weight
    other than 0. `reads` are the units of the site `reads_of` that it reads, if each input had one value in the pass
    that was looked at; `passed` are the sites that all of its input has passed.

    A norm has `gamma` and `beta`. With the running statistics of a batch norm z = scale·(w·x + bias) + shift; otherwise
    both are None.

    `parameter` is the name of the bias, or of the norm's, if nothing else of the model depends on it.
    """

    bias: float | None = None
    size: float | None = None
    largest: float = 0.0
    least_input: float = -math.inf
    reads: tuple[int, ...] | None = None
    reads_of: str | None = None
    passed: tuple[str, ...] = ()
    gamma: float | None = None
    beta: float | None = None
    scale: float | None = 1.0
    shift: float | None = 0.0
    parameter: str | None = None

    @property
    def has_norm(self) -> bool:
        """Whether a norm makes the pre-activation."""
        return self.gamma is not None


@dataclass(frozen=True, kw_only=True)
class SilentUnit:
    """The pre-activations of a unit that fires for `low < z < high` and did so nowhere, in `rows` of `samples`.

    `mean` is over all positions and `least` the smallest of all; `tops` are the largest of the maxima by row, largest
    first, and `bottoms` the smallest of the minima, smallest first, where `high` is finite: all of them, or as many as
    were kept. `precision` is the relative distance of one pre-activation to the next one. `usual_size` and
    `usual_gamma` are the medians of the L2 norm of the weights and of |γ| over the live units of the layer.
    """

    unit: int
    low: float
    high: float
    rows: int
    samples: int
    precision: float
    mean: float
    least: float
    tops: Sequence[float]
    bottoms: Sequence[float]
    layer: UnitLayer | None = None
    usual_size: float = 0.0
    usual_gamma: float = 0.0

    @property
    def most(self) -> float:
        """The largest pre-activation."""
        return self.tops[0]

    @property
    def is_one_sided(self) -> bool:
        """Whether it never fires for one reason: then its activation has one value."""
        return self.most <= self.low or self.least >= self.high


def find_causes(sites: Sequence[SiteStats], silent: Sequence[Iterable[SilentUnit]]) -> list[tuple[UnitCause, ...]]:
    """Return, for each site, the cause of each of its dead units; `silent` are the figures of these, site by site.

    The first that holds is named:

    - cap: every pre-activation is at or above the upper edge of the activation (6 of a ReLU6).
    - weights: they have collapsed, beside those of the layer's other units (`COLLAPSED`).
    - upstream: all that it reads is the output of dead units, or has passed a site that is wholly dead.
    - weights: none is positive and no input is negative, and the bias does not make it fire.
    - norm: γ has collapsed, or without β it would fire.
    - bias: without the bias it would fire.
    - input mean: with centred inputs, w·(x − μ) + b, it would fire.

    Where the bias and the input mean hold it down only together, the larger is named; "unknown" where no layer is known
    that makes the pre-activation, where all that it reads is constant for another reason, or where it lies on both
    sides of the part in which the activation fires.
    """
    out: list[tuple[UnitCause, ...]] = []
    constant: dict[str, Collection[int]] = {}
    sizes: dict[str, int] = {}
    for stats, units in zip(sites, silent, strict=True):
        dead, found, both_sides = set(stats.dead_units), dict[int, UnitCause](), set[int]()
        for z in units:
            if z.unit in dead:
                found[z.unit] = _cause(z, Upstream(constant, sizes))
                if not z.is_one_sided:
                    both_sides.add(z.unit)
        out.append(tuple(found.get(unit) or _unknown(unit, _UNSEEN) for unit in stats.dead_units))
        constant[stats.site.id], sizes[stats.site.id] = dead - both_sides, stats.site.units
    return out


@dataclass(frozen=True)
class Upstream:
    """The dead units of the sites that ran before one, and how many units each of these has."""

    dead: Mapping[str, Collection[int]]
    units: Mapping[str, int]

    def reads(self, layer: UnitLayer) -> CauseEvidence | None:
        """The dead units that are all that a unit reads, or the wholly dead site before it; None if there are none."""
        dead = self.dead.get(layer.reads_of or "", ())
        if layer.reads and all(unit in dead for unit in layer.reads):
            return {"site": layer.reads_of, "units": layer.reads}
        for site in reversed(layer.passed):
            if site in self.dead and len(self.dead[site]) == self.units[site]:
                return {"site": site, "units": tuple(range(self.units[site]))}
        return None


_UNSEEN = "its activation has no edge above which it fires, or only its output is seen"


def _unknown(unit: int, why: str) -> UnitCause:
    return UnitCause(unit=unit, cause="unknown", evidence={"why": why})


def _cause(z: SilentUnit, upstream: Upstream) -> UnitCause:
    """The cause of one dead unit."""
    if z.least >= z.high:
        evidence = {"min_preactivation": z.least, "cap": z.high}
        return UnitCause(unit=z.unit, cause="cap", evidence=evidence, wakes=_lowered(z))
    if not z.is_one_sided:
        return _unknown(z.unit, "its pre-activations lie on both sides of where the activation has a slope")
    if z.layer is None:
        return _unknown(z.unit, "no linear, convolution or norm layer alone makes its pre-activation")
    cause, found = _below(z, z.layer, upstream)
    return UnitCause(unit=z.unit, cause=cause, evidence=found, wakes=_raised(z))


def _below(z: SilentUnit, layer: UnitLayer, upstream: Upstream) -> Found:
    """What keeps a unit below the edge."""
    if layer.size is not None and _is_collapsed(z, layer):
        return "weights", {"weight_norm": layer.size, "usual_weight_norm": z.usual_size}
    if reads := upstream.reads(layer):
        return "upstream", reads
    if layer.size is not None and _never_positive(z, layer):
        return "weights", {"largest_weight": layer.largest, "min_input": layer.least_input}
    return _of_norm(z, layer) if layer.has_norm else _of_layer(z, layer)


def _is_collapsed(z: SilentUnit, layer: UnitLayer) -> bool:
    """Whether a unit's weights are next to nothing beside the others', or beside what they would have to outweigh."""
    assert layer.size is not None
    is_faint = layer.size <= COLLAPSED**2 and z.most - z.least <= 0.1 * (z.low - z.most)
    return layer.size <= COLLAPSED * z.usual_size or is_faint


def _never_positive(z: SilentUnit, layer: UnitLayer) -> bool:
    """Whether no input that is not negative can make a unit fire."""
    if layer.scale is None or layer.shift is None or layer.largest > 0 or layer.least_input < 0:
        return False
    pushed = layer.scale * (layer.bias or 0.0) + layer.shift
    slack = _margin(z) * max(abs(pushed), abs(z.most))
    return pushed <= z.low and z.most <= pushed + slack  # else some later input was negative


def _of_norm(z: SilentUnit, layer: UnitLayer) -> Found:
    """What keeps a unit below the edge that a norm scales and shifts."""
    gamma, beta = layer.gamma or 0.0, layer.beta or 0.0
    evidence = {"gamma": gamma, "beta": beta, "beta_over_gamma": beta / abs(gamma) if gamma else None}
    if abs(gamma) <= COLLAPSED * z.usual_gamma or not gamma or z.most - beta > z.low:
        return "norm", evidence
    pushed = (layer.scale or 0.0) * (layer.bias or 0.0)
    if pushed < 0 and z.most - pushed > z.low:
        return "bias", {"bias": layer.bias, "max_product": z.most - pushed, "mean_product": z.mean - pushed}
    if z.most - z.mean + beta > z.low or beta - z.mean > -beta:
        return "input mean", {**evidence, "mean_normalised": (z.mean - beta) / gamma}
    return "norm", evidence


def _of_layer(z: SilentUnit, layer: UnitLayer) -> Found:
    """What keeps a unit below the edge that a linear or convolution layer makes."""
    bias = layer.bias or 0.0
    products = {"bias": bias, "max_product": z.most - bias, "mean_product": z.mean - bias}
    if z.most - bias > z.low:
        return "bias", products
    if z.most - z.mean + bias > z.low or bias - z.mean > -bias:
        return "input mean", {**products, "max_centred": z.most - z.mean}
    if layer.reads is not None and z.most - z.least <= _margin(z) * abs(z.most):
        return "unknown", {"why": "all that it reads is constant, and no site alone is known to make it so"}
    return "bias", products


def _raised(z: SilentUnit) -> Wakes | None:
    """The bias to add that wakes a unit below the edge on `WAKING_SHARE` of its samples, as far as that is known."""
    found = _step(z, z.tops, z.low, z.low - z.least)
    return _wakes(z, found, 1) if found is not None and z.most + found[0] < z.high else None


def _lowered(z: SilentUnit) -> Wakes | None:
    """The bias to take away that wakes a unit above the cap."""
    found = _step(z, z.bottoms, z.high, z.tops[0] - z.high)
    return _wakes(z, found, -1) if found is not None and z.least - found[0] > z.low else None


def _wakes(z: SilentUnit, step: tuple[float, int], sign: int) -> Wakes | None:
    """The change that a step in one direction is; None if no parameter is known, or how many samples its rows are."""
    if z.layer is None or z.layer.parameter is None or z.rows != z.samples:
        return None
    return Wakes(parameter=z.layer.parameter, add=sign * step[0], samples=step[1])


def _margin(z: SilentUnit) -> float:
    """The share of the numbers that add up to a pre-activation by which rounding may change it."""
    return max(_MARGIN, 2 * z.precision)


def _step(z: SilentUnit, values: Sequence[float], edge: float, farthest: float) -> tuple[float, int] | None:
    """A step that is larger than what `WAKING_SHARE` of the rows are short of, and how many are short of less.

    `values` are those of the rows nearest to the `edge`, in order, and `farthest` is what none is short of more. The
    step has few digits, but enough that rounding does not decide about a row.
    """
    rows, added = z.rows, 0.0 if z.layer is None else (z.layer.beta if z.layer.has_norm else z.layer.bias) or 0.0
    margin = _margin(z) * max(abs(edge - values[0]), abs(farthest), abs(added))
    if not math.isfinite(margin):
        return None
    if farthest - abs(edge - values[0]) <= 10 * margin:  # all rows are alike
        return _round_up(farthest + 20 * margin, math.inf, 2) or _MARGIN, rows
    is_whole = len(values) == rows
    wanted = min(max(1, math.ceil(WAKING_SHARE * rows)), len(values) if is_whole else len(values) // 2)
    for count in range(wanted, len(values) + is_whole):
        low = abs(edge - values[count - 1]) + margin
        high = abs(edge - values[count]) - margin if count < len(values) else math.inf
        step = _round_up(low, high)
        if step is not None:
            return step, count
    step = _round_up(farthest + 20 * margin, math.inf, 2)
    return None if step is None else (step, rows)


def _round_up(low: float, high: float, digits: int = 1) -> float | None:
    """The number from `low` > 0 to `high` with the fewest digits, but with so many; None if five are not enough."""
    if not 0 < low <= high:
        return None
    place = math.floor(math.log10(low))
    for after in range(digits - 1, 5):
        step = float(f"{math.ceil(low * 10.0 ** (after - place) - 1e-9)}e{place - after}")
        if low <= step <= high:
            return step
    return None
