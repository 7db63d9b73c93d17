"""The figures of a trial as text: the data, what was trained, the cells of each arm, and what each column means."""

from __future__ import annotations

from collections.abc import Collection

from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.trial.figures import (
    ArmFigures,
    Digits,
    confidence_level,
    duration,
    gradient_norm,
    p_value,
    seeds_of,
)
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count, number, percent

_DASH = BLOCKS.dash


def trained_on(trial: Trial) -> str:
    """Return the training and the validation data on one line."""
    data = trial.data
    train = "data of the training function"
    if data.train_samples is not None:
        train = f"{data.train}, {count(data.train_samples, 'sample')}"
    val = count(data.val_samples, "sample")
    if data.held_out:
        return f"{train}; validated on {val} held out of {data.val or data.train}"
    return f"{train}; validated on {data.val or 'data in memory'}, {val}"


def compared_by(trial: Trial) -> str:
    """Return how many arms and seeds were trained, by what they are compared, and how long it took."""
    better = "higher" if trial.metric.higher_is_better else "lower"
    trained = f"{count(len(trial.arms), 'arm')} × {count(seeds_of(trial), 'seed')}"
    took = f" in {duration(trial.seconds)}" if trial.seconds else ""
    return f"{trained}{took}; {trial.metric.name} on validation data, {better} is better"


def levels(trial: Trial) -> str:
    """Return the confidence of the intervals: one level, or the range that Holm's correction sets; "" if none."""
    found = {arm.difference.level for arm in trial.arms if arm.difference and arm.difference.level is not None}
    shown = list(dict.fromkeys(confidence_level(level) for level in sorted(found)))
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}" if shown else ""


def paired_by(trial: Trial) -> str:
    """Return what the differences are paired by."""
    return f"seed and validation {trial.metric.unit}" if trial.metric.unit else "seed"


def arm_cells(arm: ArmFigures, trial: Trial, digits: Digits) -> dict[str, str]:
    """Return the figures of an arm by column: a dash if it is not known, nothing if the baseline cannot have it."""
    difference, is_baseline = arm.arm.difference, arm.arm is trial.baseline
    spread = "" if arm.spread is None else f" ±{digits.size(arm.spread)}"
    change = interval = p = "" if is_baseline else _DASH
    if difference is not None:
        change = digits.change(difference.estimate)
        p = _DASH if difference.p is None else p_value(difference.p)
        if difference.low is not None and difference.high is not None:
            interval = f"{digits.change(difference.low)} to {digits.change(difference.high)}"
    steps = _DASH if not arm.complete else "never" if arm.steps is None else number(arm.steps)
    return {
        "metric": _DASH if arm.average is None else digits.value(arm.average) + spread,
        "change": change,
        "interval": interval,
        "verdict": arm.arm.verdict,
        "p": p,
        "seeds": f"{arm.complete:,}/{seeds_of(trial):,}",
        "steps": steps,
        "gap": _DASH if arm.gap is None else digits.change(arm.gap),
        "dead": _DASH if arm.dead is None else percent(arm.dead),
        "gradient": _DASH if arm.largest_gradient is None else gradient_norm(arm.largest_gradient),
    }


def caption(trial: Trial, shown: Collection[str]) -> str:
    """Return what the columns in `shown` mean."""
    base, metric = trial.baseline.name, trial.metric.name
    points = " in percentage points" if trial.metric.is_share else ""
    side = "right" if trial.metric.higher_is_better else "left"
    at = levels(trial)
    of_runs = "mean ± standard deviation over seeds" if seeds_of(trial) > 1 else "of a single run"
    means = {
        "metric": f"{metric}: {of_runs}",
        "change": f"diff: {metric} minus that of {base}{points}, paired by {paired_by(trial)}",
        "whisker": f"whisker: diff{f' with its interval at {at} confidence (Holm)' if at else ''}, {side} is better",
        "seeds": "seeds: runs that finished",
        "p": "p: adjusted by Holm’s correction",
        "dead": "dead: mean share of units at the end",
        "steps": f"steps: until the best of {base} was reached, median",
        "gap": f"gap: training minus validation {metric}, mean",
        "gradient": "max grad: largest gradient norm",
    }
    return "; ".join(said for key, said in means.items() if key in shown)
