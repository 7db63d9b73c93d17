"""The conclusion of a trial in words: what was better, what was worse, how certain that is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from deadrelu.render.conclusion import Mood, Step
from deadrelu.render.trial.figures import (
    Digits,
    arm_figures,
    confidence_level,
    digits_of,
)
from deadrelu.report.commands import trial_again
from deadrelu.report.trial import ArmResult, Difference, Trial
from deadrelu.text.wording import count, first_few

_MOST_OF_A_SHARE = 0.5
"""A trial that finds no smaller difference of shares (0..1) finds nothing of use."""

_MOST_NAMED = 4
"""Of more arms than this, the rest are only counted."""


def trial_headline(trial: Trial) -> str:
    """Return the outcome in capitals."""
    if winner_of(trial):
        return "BETTER"
    if not _compared(trial):
        return "NOTHING COMPARED"
    return "ONE SEED" if _is_one_seed(trial) else "NOTHING BETTER"


def trial_mood(trial: Trial) -> Mood:
    """Return "good" for a winner whose runs are all complete, "bad" if nothing could be compared."""
    winner = winner_of(trial)
    if winner:
        return "good" if arm_figures(winner).complete == len(winner.runs) else "doubtful"
    return "doubtful" if _compared(trial) else "bad"


def trial_conclusion(trial: Trial) -> str:
    """Return what the trial found and how certain it is, in a few plain sentences."""
    return " ".join(trial_sentences(trial))


def trial_sentences(trial: Trial) -> list[str]:
    """Return the sentences of the conclusion: the winner or its absence, the other verdicts, what would be found."""
    digits, winner = digits_of(trial), winner_of(trial)
    if winner and winner.difference:
        return [_won(winner, winner.difference, trial, digits), *_also_better(trial), *_worse(trial, digits)]
    if not _compared(trial):
        return [_nothing_compared(trial)]
    if _is_one_seed(trial):
        return [_one_seed(trial, digits)]
    base = arm_figures(trial.baseline).average
    at = "" if base is None else f" ({digits.value(base)})"
    nothing = f"Nothing was better than {trial.baseline.name}{at}: leave the model as it is."
    return [nothing, *_power(trial, digits), *_worse(trial, digits)]


def winner_of(trial: Trial) -> ArmResult | None:
    """Return the arm that won; None if nothing was better. An arm without a difference from the baseline never won."""
    return next((arm for arm in trial.arms if arm.name == trial.winner and arm.difference is not None), None)


def trial_step(trial: Trial) -> Step | None:
    """Return what to do next; None if there is nothing to do."""
    winner = winner_of(trial)
    if winner is None:
        words = trial.settings.get("invocation")
        again = trial_again(words, "--seeds=5") if isinstance(words, tuple) else None
        return Step("Run the trial again with more seeds", again) if _is_one_seed(trial) else None
    if winner.command is None:
        return Step(f"Train with the recipe {winner.recipe}")
    title = "Make this change" if " patch " in winner.command else "Train in this way, and keep the best model"
    return Step(title, winner.command)


def trial_cautions(trial: Trial) -> list[str]:
    """Return what limits the conclusion: runs that diverged or failed, arms given up early, no data to validate on."""
    found = []
    for arm in trial.arms:
        runs = len(arm.runs)
        lost = [f"seed {run.seed} at step {run.diverged:,}" for run in arm.runs if run.diverged is not None]
        if lost:
            found.append(
                f"{arm.name}: {len(lost):,} of {count(runs, 'run')} diverged ({first_few(lost, _MOST_NAMED)})."
            )
        failed = [run for run in arm.runs if run.failed is not None]
        if failed:
            seeds = first_few([str(run.seed) for run in failed], _MOST_NAMED)
            reason = " ".join((failed[0].failed or "").split())
            said = f"{arm.name}: {len(failed):,} of {count(runs, 'run')} failed"
            found.append(f"{said} (seed{'' if len(failed) == 1 else 's'} {seeds}): {reason.rstrip('.')}.")
        if arm.dropped_after is not None:
            found.append(f"{arm.name} was dropped after {count(arm.dropped_after, 'seed')}: it was too far behind.")
    return found


def _compared(trial: Trial) -> list[ArmResult]:
    """The arms that have a difference from the baseline."""
    return [arm for arm in trial.arms if arm.difference is not None]


def _is_one_seed(trial: Trial) -> bool:
    """Whether no arm has enough seeds for an interval."""
    found = [arm.difference for arm in _compared(trial)]
    return bool(found) and all(d is not None and (d.p is None or d.pairs < 2) for d in found)


def _won(winner: ArmResult, difference: Difference, trial: Trial, digits: Digits) -> str:
    """Say how far the winner is ahead; the means are those of the seeds that both arms finished."""
    base = {run.seed: run.metric for run in trial.baseline.runs}
    both = [(run.metric, base.get(run.seed)) for run in winner.runs]
    pairs = [(ours, theirs) for ours, theirs in both if ours is not None and theirs is not None]
    wins = f"better on {difference.wins:,} of {count(difference.pairs, 'seed')}, by {_by(difference, digits)}"
    bad = len(winner.runs) - arm_figures(winner).complete
    but = f", but {bad:,} of its {count(len(winner.runs), 'run')} did not finish" if bad else ""
    if not pairs:
        return f"{winner.name} was {wins}{but}."
    ours, theirs = (mean(side) for side in zip(*pairs, strict=True))
    spread = arm_figures(winner).spread
    value = digits.value(ours) + ("" if spread is None else f" ± {digits.size(spread)}")
    named = f"{value} {trial.metric.name}" if trial.metric.is_share else f"a {trial.metric.name} of {value}"
    verb = "reaches" if trial.metric.higher_is_better else "gets down to"
    stays = f"where {trial.baseline.name} stays at {digits.value(theirs)}"
    return f"{winner.name} {verb} {named} {stays}: {wins}{but}."


def _by(difference: Difference, digits: Digits) -> str:
    """How large a difference is, with the bounds of its size."""
    text = digits.amount(difference.estimate)
    if difference.low is None or difference.high is None:
        return text
    low, high = sorted((difference.low, difference.high), key=abs)
    level = "" if difference.level is None else f" at {confidence_level(difference.level)} confidence"
    if low * high < 0:
        return f"{text} ({digits.change(difference.low)} to {digits.change(difference.high)}{level})"
    return f"{text} ({digits.size(low)} to {digits.size(high)}{level})"


def _also_better(trial: Trial) -> Iterator[str]:
    """Name the other arms that are better than the baseline."""
    names = [arm.name for arm in trial.ranking if arm.verdict == "better" and arm.name != trial.winner]
    if names:
        yield f"{first_few(names, _MOST_NAMED)} {'was' if len(names) == 1 else 'were'} better than the baseline too."


def _worse(trial: Trial, digits: Digits) -> Iterator[str]:
    """Name the arms that are worse than the baseline, and by how much."""
    worse = [arm for arm in trial.ranking if arm.verdict == "worse"]
    named = [
        f"{arm.name} (by {digits.amount(arm.difference.estimate)})" if arm.difference else arm.name for arm in worse
    ]
    if named:
        were = "was" if len(named) == 1 else "were"
        yield f"{first_few(named, _MOST_NAMED)} {were} worse than {trial.baseline.name}."


def _power(trial: Trial, digits: Digits) -> Iterator[str]:
    """Say how large a difference this trial would have found, for the arm where it sees the least."""
    sizes = [arm.difference.detectable for arm in _compared(trial) if arm.difference and arm.verdict == "no evidence"]
    seen = [size for size in sizes if size is not None]
    if seen:
        seeds = count(max(arm.difference.pairs for arm in _compared(trial) if arm.difference), "seed")
        samples = f" and {count(trial.data.val_samples, 'sample')}" if trial.metric.unit == "sample" else ""
        if trial.metric.is_share and max(seen) > _MOST_OF_A_SHARE:
            yield f"{seeds[0].upper()}{seeds[1:]}{samples} are too few to find even a large difference: run more seeds."
            return
        size = digits.amount(max(seen))
        yield f"With {seeds}{samples}, a true difference of {size} would have been found in 4 of 5 trials."


def _one_seed(trial: Trial, digits: Digits) -> str:
    """Say that a single seed shows nothing, and what it looks like so far."""
    best = next(arm for arm in trial.ranking if arm.difference is not None)
    gain = best.difference.estimate * (1 if trial.metric.higher_is_better else -1) if best.difference else 0.0
    base = trial.baseline.name
    so_far = f"{best.name} was {digits.amount(gain)} better than {base}" if gain > 0 else f"no arm was ahead of {base}"
    return f"One seed cannot tell a better arm from luck: {so_far} this time, so run more seeds."


def _nothing_compared(trial: Trial) -> str:
    """Say why there is no difference to show."""
    base = trial.baseline.name
    if len(trial.arms) == 1:
        return f"Only {base} was trained: there is nothing to compare it with."
    if arm_figures(trial.baseline).average is None:
        return f"{base} has no result, so nothing can be compared with it."
    return f"No other arm has a result to compare with {base}."
