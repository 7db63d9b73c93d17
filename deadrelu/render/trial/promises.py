"""What textbooks promise of leaky ReLU, beside what a trial measured: speed, generalization, accuracy, gradients."""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.render.trial.figures import ArmFigures, Digits, arm_figures, digits_of, duration, gradient_norm
from deadrelu.report.trial import ArmResult, Trial
from deadrelu.text.wording import count, number


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What textbooks promise of leaky ReLU, and what this trial measured."""

    claim: str
    measured: str


def promises(trial: Trial) -> list[Promise]:
    """Return the four promises of leaky ReLU beside what was measured with the arm that `promised_of` names.

    They are figures, not verdicts: only the difference in the metric was tested.
    """
    best = _promising(trial)
    if best is None or all(arm.difference is None for arm in trial.arms):
        return []
    arm, base, digits = arm_figures(best), arm_figures(trial.baseline), digits_of(trial)
    return [
        Promise(claim="Shorter training", measured=_speed(arm, base, trial)),
        Promise(claim="Better generalization", measured=_gap(arm, base, trial, digits)),
        Promise(claim=f"Better {trial.metric.name}", measured=_tested(arm.arm, trial, digits)),
        Promise(claim="No exploding gradients", measured=_gradients(arm, base)),
    ]


def promised_of(trial: Trial) -> str:
    """Return the heading of the promises: which arm they are measured on."""
    arm = _promising(trial)
    if arm is None:
        return ""
    leaky = any(map(_is_leaky, arm.recipe.split("+")))
    return f"Four promises of leaky ReLU, measured with {arm.name}{'' if leaky else ' (no arm was leaky)'}"


def _promising(trial: Trial) -> ArmResult | None:
    """The best arm that is leaky and nothing else, else that is leaky, else any; None if only keep was trained."""

    def rank(arm: ArmResult) -> int:
        leaky = [*map(_is_leaky, arm.recipe.split("+"))]
        return 0 if all(leaky) else 1 if any(leaky) else 2

    return min((arm for arm in trial.ranking if arm is not trial.baseline), key=rank, default=None)


def _is_leaky(change: str) -> bool:
    """Whether one change of a recipe swaps in leaky ReLUs."""
    return change.strip().partition(":")[0] == "leaky_relu"


def _speed(arm: ArmFigures, base: ArmFigures, trial: Trial) -> str:
    """Say when the arm reached the best of the baseline."""
    runs = count(len(arm.arm.runs), "seed")
    best = f"the best {trial.metric.name} of {base.arm.name}"
    if arm.steps is None:
        return f"on none of {runs} did it reach {best}."
    itself = "" if base.steps is None else f"; {base.arm.name} itself took {_after(base)}"
    return f"on {arm.reached:,} of {runs} it reached {best}, after {_after(arm)}{itself} (median)."


def _after(arm: ArmFigures) -> str:
    """The steps to the target, and the time if it is known."""
    steps = f"{number(arm.steps or 0)} steps"
    return steps if arm.seconds is None else f"{steps} or {duration(arm.seconds)}"


def _gap(arm: ArmFigures, base: ArmFigures, trial: Trial, digits: Digits) -> str:
    """Say how far training and validation metric are apart."""
    if arm.gap is None:
        return f"its training {trial.metric.name} is not known."
    beside = "" if base.gap is None else f", against {digits.change(base.gap)} with {base.arm.name}"
    return f"training minus validation {trial.metric.name} is {digits.change(arm.gap)}{_unit(digits)}{beside}."


def _tested(arm: ArmResult, trial: Trial, digits: Digits) -> str:
    """Say what the test says about one arm."""
    difference, base = arm.difference, trial.baseline.name
    if difference is None:
        return f"it has no result to compare with {base}."
    bounds = ""
    if difference.low is not None and difference.high is not None:
        bounds = f" ({digits.change(difference.low)} to {digits.change(difference.high)})"
    verdict = arm.verdict if arm.verdict in ("better", "worse") else "no evidence of a difference"
    wins = f"ahead on {difference.wins:,} of {count(difference.pairs, 'seed')}"
    return f"{digits.change(difference.estimate)}{_unit(digits)}{bounds} from {base}, {wins}: {verdict}."


def _unit(digits: Digits) -> str:
    return " points" if digits.percent else ""


def _gradients(arm: ArmFigures, base: ArmFigures) -> str:
    """Say how large the gradients were, and how many runs diverged."""
    return f"{_norms(arm)}; with {base.arm.name}, {_norms(base)}."


def _norms(arm: ArmFigures) -> str:
    """The gradient norms of one arm, and its runs that diverged."""
    lost = f"{arm.arm.diverged:,} of {count(len(arm.arm.runs), 'run')} diverged"
    sizes = (("median", arm.gradient), ("at most", arm.largest_gradient))
    norms = " and ".join(f"{label} {gradient_norm(size)}" for label, size in sizes if size is not None)
    return f"gradient norm {norms}, {lost}" if norms else lost
