"""What to do about the cause that keeps most dead units of a site down."""

from __future__ import annotations

import json
from collections import Counter

from deadrelu.judge.gradients import clip_to_advise
from deadrelu.render.causes import main_cause
from deadrelu.report import Report, SiteStats
from deadrelu.report.advice import Remedy
from deadrelu.report.causes import Cause

_BEFORE_A_SWAP: tuple[Cause, ...] = ("bias", "norm", "input mean", "upstream", "cap")
"""Causes that are better removed than leaked around."""


def clipping(report: Report) -> str | None:
    """The line that clips gradients in a training loop, after `backward()`; None where no scan has measured them."""
    clip = clip_to_advise(report)
    return None if clip is None else f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={clip:g})"


def lower_rate(report: Report) -> str:
    """A lower learning rate than that of the training, which the optimizer of a checkpoint gives."""
    known = [rate for each in report.model.optimizers for rate in each.initial_lr or each.lr]
    return f"a learning rate below {max(known):g}" if known else "a lower learning rate"


def cause_of(stats: SiteStats) -> Cause:
    """The cause of most of a site's dead units; "unknown" where none is known."""
    known = Counter(found.cause for found in stats.causes)
    return known.most_common(1)[0][0] if known else "unknown"


def comes_first(stats: SiteStats) -> bool:
    """Whether the remedy for the cause is better than a swap."""
    return cause_of(stats) in _BEFORE_A_SWAP


def remedy_for_cause(report: Report, stats: SiteStats) -> Remedy:
    """The remedy for the main cause, with its figures."""
    before = f"`{stats.site.after}`" if stats.site.after else "the layer before"
    why = _sentence(main_cause(stats))
    slower = f"continue training with {lower_rate(report)}"
    match cause_of(stats):
        case "bias":
            title = f"Set the bias of {before} to 0 in these units, and {slower}"
            return Remedy(title=title, why=why, python=_reset(stats, "bias"))
        case "norm":
            title = f"Make {before} neutral in these units (γ 1, β 0), and {slower}"
            return Remedy(title=title, why=why, python=_reset(stats, "norm"))
        case "input mean" if report.sites[0] is stats:
            return Remedy(title="Check that the mean is taken out of the data as in training, and scan again", why=why)
        case "input mean":
            return Remedy(title=f"Put a batch norm before {before}, and train again with {lower_rate(report)}", why=why)
        case "weights":
            return Remedy(title=f"Restart these units of {before}: hardly any input can wake them", why=why)
        case "upstream":
            return Remedy(title="Mend the dead site before it first, and scan again", why=why)
        case "cap":
            return Remedy(
                title=f"Scale down the output of {before}",
                why=f"{why} A leak below 0 does not help them: check the scale of the inputs and of the weights.",
            )
    if stats.dead == stats.site.units:
        title = f"Find the cause first: check the weights, the bias and the inputs of {before}"
        return Remedy(title=title, why=f"{why} It may be the scale of the inputs, or weights of one sign.".lstrip())
    return Remedy(
        title=f"Train with {lower_rate(report)} and a warm-up, and clip the gradients of {before}",
        why=f"{why} Too large a step moves the weights or the bias of {before} to where no input reaches the active"
        " range.".lstrip(),
        python=clipping(report),
    )


def _sentence(text: str) -> str:
    """A text that begins with a capital."""
    return text[:1].upper() + text[1:]


def _reset(stats: SiteStats, cause: Cause) -> str | None:
    """The statements that give the units of this cause the bias of a fresh layer; None where it has no name."""
    units: dict[str, list[int]] = {}
    for found in stats.causes:
        if found.cause == cause and found.wakes is not None:
            units.setdefault(found.wakes.parameter, []).append(found.unit)
    lines = [_statement(name, numbers, 0) for name, numbers in units.items()]
    if cause == "norm":
        scales = {f"{name.removesuffix('bias')}weight": numbers for name, numbers in units.items()}
        lines += [_statement(name, numbers, 1) for name, numbers in scales.items()]
    return "\n".join(lines) or None


def _statement(name: str, units: list[int], value: int) -> str:
    return f"model.get_parameter({json.dumps(name)}).data[{units}] = {value}"
