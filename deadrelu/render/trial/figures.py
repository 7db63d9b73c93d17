"""The figures of a trial as a person reads them: each arm over its seeds, with as many digits as the data carries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median, stdev

from deadrelu.report.trial import ArmResult, Trial
from deadrelu.text.wording import number

FINE = 2_000
"""From so many validation samples on, hundredths of a percentage point are shown."""

_MOST_DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class Digits:
    """How a metric is written: as a percentage or as it is, with a number of decimals that all arms share."""

    percent: bool
    decimals: int

    def value(self, value: float) -> str:
        """Return a metric: `98.6%`, `0.3512`. A share below 1 is never `100.0%`."""
        if not self.percent:
            return self._plain(value)
        decimals = self.decimals
        while value < 1 and decimals < _MOST_DECIMALS and f"{value * 100:.{decimals}f}".startswith("100"):
            decimals += 1
        return f"{value * 100:.{decimals}f}%"

    def change(self, value: float) -> str:
        """Return a signed difference of two metrics, in percentage points for a share: `+8.9`, `−0.0610`."""
        text = self.size(value)
        if not any(digit in "123456789" for digit in text):
            return text
        return f"−{text}" if value < 0 else f"+{text}"

    def size(self, value: float) -> str:
        """Return how large a difference is, without its sign."""
        return f"{abs(value) * 100:.{self.decimals}f}" if self.percent else self._plain(abs(value))

    def amount(self, value: float) -> str:
        """Return how large a difference is, with its unit: `8.9 points`."""
        return self.size(value) + (" points" if self.percent else "")

    def _plain(self, value: float) -> str:
        """A number that is not a share; very large and very small ones have an exponent."""
        odd = value and not 1e-5 <= abs(value) < 1e6
        return (f"{value:.3g}" if odd else f"{value:.{self.decimals}f}").replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """An arm over its seeds; None is what no run has.

    `average` and `spread` are the mean and the standard deviation of the validation metric. `complete` counts the runs
    that have one, and neither failed nor diverged. `steps` and `seconds` to the target are medians of the runs that
    `reached` it. `gap`, `dead` and `saturated` are means, `gradient` is a median, and `largest_gradient` the largest
    of all runs.
    """

    arm: ArmResult
    average: float | None
    spread: float | None
    complete: int
    reached: int
    steps: float | None
    seconds: float | None
    gap: float | None
    dead: float | None
    saturated: float | None
    gradient: float | None
    largest_gradient: float | None


def known(values: Iterable[float | None]) -> list[float]:
    """Return the values that are there and finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def arm_figures(arm: ArmResult) -> ArmFigures:
    """Return an arm's figures over all of its runs that have them."""
    runs = arm.runs
    metrics = known(run.metric for run in runs)
    reached = [run for run in runs if run.steps_to_target is not None]
    gaps, dead = known(run.gap for run in runs), known(run.dead_fraction for run in runs)
    saturated = known(run.saturated_fraction for run in runs)
    medians, largest = known(run.gradient_norm_median for run in runs), known(run.gradient_norm_max for run in runs)
    seconds = known(run.seconds_to_target for run in reached)
    return ArmFigures(
        arm=arm,
        average=mean(metrics) if metrics else None,
        spread=stdev(metrics) if len(metrics) > 1 else None,
        complete=sum(run.failed is None and run.diverged is None and run.metric is not None for run in runs),
        reached=len(reached),
        steps=median(known(run.steps_to_target for run in reached)) if reached else None,
        seconds=median(seconds) if seconds else None,
        gap=mean(gaps) if gaps else None,
        dead=mean(dead) if dead else None,
        saturated=mean(saturated) if saturated else None,
        gradient=median(medians) if medians else None,
        largest_gradient=max(largest, default=None),
    )


def digits_of(trial: Trial) -> Digits:
    """Return how the metric of this trial is written: four significant digits of its largest value if not a share."""
    if trial.metric.is_share:
        return Digits(percent=True, decimals=1 if trial.data.val_samples < FINE else 2)
    top = max((abs(value) for arm in trial.arms for value in known(run.metric for run in arm.runs)), default=0.0)
    return Digits(percent=False, decimals=min(max(0, 3 - math.floor(math.log10(top))), 8) if top else 3)


def seeds_of(trial: Trial) -> int:
    """Return how many seeds the trial has; an arm that was dropped has fewer."""
    return max((len(arm.runs) for arm in trial.arms), default=0)


def p_value(p: float) -> str:
    """Return a p-value, of which only the size matters: `<0.001`, `0.012`, `0.34`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def confidence_level(level: float) -> str:
    """Return a confidence as a percentage with one decimal at most: `95%`, `98.8%`."""
    return f"{level * 100:.1f}".removesuffix(".0") + "%"


def duration(seconds: float) -> str:
    """Return a duration: `0.42 s`, `3.2 s`, `83 s`, `12 min`, `3.4 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    return (
        f"{seconds:.0f} s"
        if seconds < 180
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def gradient_norm(value: float) -> str:
    """Return a gradient norm with two or three digits: `0.61`, `8.3`, `4.1e7`."""
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits}e{int(exponent)}".replace("-", "−")
    return number(value)
