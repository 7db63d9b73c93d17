"""The gradients of a loss in words: the loss, the norm of the gradient, and how much of it gets to the first site."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.judge.gradients import clip_to_advise, starved_units
from deadrelu.report import Report
from deadrelu.report.gradients import GradientNorms
from deadrelu.text.wording import count, percent


def in_words(report: Report) -> str:
    """Return what a scan with a loss has found, in a few sentences; nothing without a loss."""
    return " ".join(_sentences(report)) if report.gradients is not None else ""


def _sentences(report: Report) -> Iterator[str]:
    found = report.gradients
    if found is None:
        return
    right = "" if found.accuracy is None else f", {percent(found.accuracy)} of predictions are right"
    yield f"The loss ({found.loss}) is {_number(found.value)}{right}."
    yield _norm(found.norm, report.data.batches, clip_to_advise(report))
    measured = [stats.site.id for stats in report.sites if stats.gradient_rms]
    if found.first_to_last is not None and measured:
        first, last = measured[0], measured[-1]
        yield f"At the first site, {first}, the RMS is {_number(found.first_to_last)} times that at the last, {last}."
    starved = [(stats, units) for stats in report.sites if (units := starved_units(stats))]
    if starved:
        number = sum(len(units) for _, units in starved)
        at = starved[0][0].site.id if len(starved) == 1 else count(len(starved), "site")
        verb, get, it = ("fires", "gets", "its") if number == 1 else ("fire", "get", "their")
        yield f"{count(number, 'unit')} at {at} {verb} but {get} no gradient: the loss does not depend on {it} output."
    if left_out := sum(not stats.gradient_rms for stats in report.sites):
        yield f"{count(left_out, 'site')} ran where autograd does not follow, and has no gradient here."


def _norm(norm: GradientNorms, batches: int, clip: float | None) -> str:
    """How large the gradient of all parameters is, by batch."""
    if norm.max is None:
        return "The gradient of the parameters is NaN or infinite on some batch."
    if batches == 1:
        return f"The norm of the gradient of all parameters is {_number(norm.max)} on the one batch."
    most = f"{_number(norm.median)} in the median batch, {_number(norm.p95)} at the 95th percentile"
    most += f", {_number(norm.max)} at most"
    advice = f"; to clip outliers alone, clip it at {clip:g}" if clip else ""
    return f"The norm of the gradient of all parameters is {most}{advice}."


def _number(value: float | None) -> str:
    """A number with three digits and a real minus sign."""
    return "not finite" if value is None else f"{value:.3g}".replace("-", "−")
