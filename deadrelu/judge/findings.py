"""What is wrong with the model: a function for each rule. What casts doubt on the figures is in `doubts.py`."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.activations import BY_NAME, LEAKY
from deadrelu.judge.definitions import condition
from deadrelu.judge.finders import finder, make_finding
from deadrelu.judge.gradients import EXPLODED, VANISHED, clip_to_advise, flow_of
from deadrelu.judge.policy import Policy
from deadrelu.judge.rules import RULES
from deadrelu.report import Finding, Report, Severity, SiteStats
from deadrelu.text.wording import count, exact_percent, first_few, percent

_AFTER_A_SWAP = "Fine-tune the model, and scan again: a unit that wakes no longer only leaks."


@finder
def find_dead_units(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR001: an error above a limit, a note within it, a warning where there is no limit or the total is over."""
    max_dead_total = policy.max_dead_total
    dead = sum(stats.judged for stats in report.gated)
    units = sum(stats.site.units for stats in report.gated)
    over_total = max_dead_total is not None and bool(units) and dead / units > max_dead_total
    if over_total and max_dead_total is not None:
        message = _dead_of(dead, units, "units of all sites", policy) + _allows(max_dead_total, units)
        yield make_finding("DR001", None, message, severity="error")
    for stats in report.sites:
        if not stats.judged or _wholly_dead(stats):
            continue
        message = _dead_of(stats.judged, stats.site.units, "units", policy)
        limit = policy.limit(stats.site)
        if stats.site.is_guessed:
            severity: Severity = "note"
            message += f", if axis {stats.site.feature_axis} holds its units, which is a guess: no limit applies."
        elif limit is not None:
            severity = "error" if stats.judged_fraction > limit else "note"
            message += _allows(limit, stats.site.units)
        else:
            severity = "warning" if max_dead_total is None or over_total else "note"
            says = condition(policy.definition, policy.tau)
            message += f", {says}" if says else ": silent"
            message += f" on {count(stats.samples, 'sample')}."
        yield make_finding("DR001", stats, message, stats.judged_units, severity)


@finder
def find_dead_sites(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR002: every unit of a site is dead. It replaces DR001 at that site."""
    for stats in filter(_wholly_dead, report.sites):
        units, samples = count(stats.site.units, "unit"), count(stats.samples, "sample")
        message = (
            f"The whole site is dead: 0 of {units} fired on {samples},"
            " and everything after it that has no other input is constant."
        )
        if stats.dead < stats.site.units:
            every = f"all {units}" if stats.site.units > 1 else "its one unit"
            says = condition(policy.definition, policy.tau)
            message = f"The whole site is dead by {policy.definition}: {every}, {says} on {samples}."
        yield make_finding("DR002", stats, message, stats.judged_units)


@finder
def find_nonfinite(report: Report, _: Policy) -> Iterator[Finding]:
    """DR003: NaN or infinity in the weights (no site), and in the pre-activations of a site."""
    weights = report.model.nonfinite_weights
    if weights:
        names = first_few(list(weights), 3)
        verb = "is" if sum(weights.values()) == 1 else "are"
        message = f"{count(sum(weights.values()), 'weight')} {verb} NaN or infinite, in {names}."
        yield make_finding("DR003", None, message)
    for stats in report.sites:
        if units := stats.nonfinite_units:
            message = (
                f"{len(units):,} of {count(stats.site.units, 'unit')} met NaN or infinite pre-activations;"
                " it is unknown whether they are dead."
            )
            yield make_finding("DR003", stats, message, units)


@finder
def find_rare_units(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR004: units that fired at fewer than `policy.rare_below` of their positions."""
    for stats in report.sites:
        if units := stats.rare_units:
            message = (
                f"{len(units):,} of {count(stats.site.units, 'unit')} fired at fewer than"
                f" {exact_percent(policy.rare_below)} of {count(stats.positions, 'position')}."
            )
            yield make_finding("DR004", stats, message, units)


@finder
def find_always_on(report: Report, _: Policy) -> Iterator[Finding]:
    """DR005: every unit of a site fired at every position, where its activation is a straight line."""
    for stats in report.sites:
        kind = BY_NAME.get(stats.site.op)
        if (kind is None or kind.is_linear) and len(stats.always_on_units) == stats.site.units:
            units = f"all {stats.site.units:,} units" if stats.site.units > 1 else "its one unit"
            message = (
                f"The {stats.site.op} does nothing here: {units} fired at each of {count(stats.positions, 'position')}."
            )
            yield make_finding("DR005", stats, message, stats.always_on_units)


@finder
def find_saturated(report: Report, policy: Policy) -> Iterator[Finding]:
    """DR007: saturated units; an error above `policy.max_saturated`, a note within it."""
    limit = policy.max_saturated
    for stats in report.sites:
        if not stats.saturated:
            continue
        verb = "is" if stats.saturated == 1 else "are"
        message = (
            f"{stats.saturated:,} of {count(stats.site.units, 'unit')} {verb} saturated"
            f" ({percent(stats.saturated_fraction)}){_sides(stats)} on {count(stats.samples, 'sample')}"
        )
        severity: Severity = "warning" if limit is None else "error" if stats.saturated_fraction > limit else "note"
        if stats.site.is_guessed:
            severity = "note"
            message += f", if axis {stats.site.feature_axis} holds its units, which is a guess: no limit applies."
        else:
            message += "." if limit is None else _allows(limit, stats.site.units)
        suggestion = _AFTER_A_SWAP if stats.site.op in LEAKY else ""
        yield make_finding("DR007", stats, message, stats.saturated_units, severity, suggestion)


@finder
def find_vanishing(report: Report, _: Policy) -> Iterator[Finding]:
    """DR012: the gradient at the first site is far smaller than at the last."""
    flow = flow_of(report)
    if flow is None or flow.ratio >= VANISHED:
        return
    last = flow.last.site.id
    message = f"The gradient here is {flow.ratio:.0e} times that at {last}: what is before this site hardly learns."
    if flow.ratio == 0:
        dead = next((stats.site.id for stats in report.sites if _wholly_dead(stats)), None)
        message = f"No gradient of the loss gets here, while {last} has one"
        message += f": it ends at {dead}, which is wholly dead." if dead is not None else "."
    yield make_finding("DR012", flow.first, message)


@finder
def find_exploding(report: Report, _: Policy) -> Iterator[Finding]:
    """DR013: the gradient at the first site is far larger than at the last; an error where it is not finite."""
    gradients, flow = report.gradients, flow_of(report)
    if gradients is not None and (gradients.norm.max is None or gradients.value is None):
        what = "loss" if gradients.value is None else "gradient of the parameters"
        yield make_finding("DR013", None, f"The {what} is NaN or infinite on some batch.", severity="error")
    if flow is not None and flow.ratio > EXPLODED:
        message = f"The gradient here is {flow.ratio:,.3g} times that at {flow.last.site.id}."
        clip = f" Here {value:g} would leave most batches as they are." if (value := clip_to_advise(report)) else ""
        yield make_finding("DR013", flow.first, message, suggestion=RULES["DR013"].fix + clip)


def _wholly_dead(stats: SiteStats) -> bool:
    """Whether every unit of the site is dead, by the definition if there is one."""
    return stats.judged == stats.site.units > 0


def _sides(stats: SiteStats) -> str:
    """Say how many units are stuck low and how many high; nothing where neither is known."""
    if stats.site.op in LEAKY:
        return f", and only ever leak{'s' if stats.saturated == 1 else ''},"
    low, high, all_units = len(stats.saturated_low_units), len(stats.saturated_high_units), stats.saturated
    sides = [(number, side) for number, side in ((low, "low"), (high, "high")) if number]
    every = "both " if all_units == 2 else "all " if all_units > 2 else ""
    parts = [f"{every if number == all_units else f'{number:,} '}stuck {side}" for number, side in sides]
    return f", {' and '.join(parts)}," if parts else ""


def _dead_of(dead: int, units: int, noun: str, policy: Policy) -> str:
    """The start of a DR001 message."""
    by = f" by {policy.definition}" if policy.definition else ""
    return f"{dead:,} of {units:,} {noun} {'is' if dead == 1 else 'are'} dead{by} ({percent(dead / units)})"


def _allows(limit: float, units: int) -> str:
    """The end of a message on a limit. It counts units, because two rounded percentages can look equal."""
    allowed = int(limit * units)
    # The product is rounded. The gate compares quotients, and the message must agree with the gate.
    allowed += (allowed + 1) / units <= limit
    allowed -= allowed / units > limit
    return f"; the limit of {exact_percent(limit)} allows {allowed:,}."
