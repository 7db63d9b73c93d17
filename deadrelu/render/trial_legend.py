"""What stands around the figures of a trial: the data, what was trained, and what each column means."""

from __future__ import annotations

from collections.abc import Collection

from deadrelu.render.trial_figures import confidence_level, duration, seeds_of
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count


def trained_on(trial: Trial) -> str:
    """Return the training and the validation data on one line."""
    data = trial.data
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


def caption(trial: Trial, shown: Collection[str]) -> str:
    """Return what the columns in `shown` mean."""
    base, metric = trial.baseline.name, trial.metric.name
    points = " in percentage points" if trial.metric.is_share else ""
    side = "right" if trial.metric.higher_is_better else "left"
    at = levels(trial)
    parts = [f"{metric}: mean ± standard deviation over seeds" if seeds_of(trial) > 1 else f"{metric}: of a single run"]
    means = {
        "change": f"diff: {metric} minus that of {base}{points}, paired by {paired_by(trial)}",
        "whisker": f"whisker: diff{f' with its interval at {at} confidence (Holm)' if at else ''}, {side} is better",
        "seeds": "seeds: runs that finished",
        "p": "p: adjusted by Holm’s correction",
        "dead": "dead: share of units at the end",
        "steps": f"steps: until the best of {base} was reached, median",
        "gap": f"gap: training minus validation {metric}",
        "gradient": "max grad: largest gradient norm",
    }
    return "; ".join([*parts, *(said for key, said in means.items() if key in shown)])
