"""What a scan has to measure, so that its options can be judged."""

from __future__ import annotations

from deadrelu.errors import UsageError
from deadrelu.judge.definitions import check_gradients, check_level
from deadrelu.judge.early import Until
from deadrelu.judge.policy import Policy
from deadrelu.report import Stats


def check_combination(
    policy: Policy,
    stats: Stats,
    until: Until | None,
    *,
    is_shared: bool = False,
    has_loss: bool = False,
    has_ranks: bool = False,
    has_initial: bool = False,
) -> None:
    """Raise `UsageError` for a scan that would measure less than the options need."""
    check_level(policy.definition, stats)
    check_gradients(policy.definition, has_loss=has_loss)
    if has_loss and stats == "fired":
        raise UsageError("with --stats fired, sites are not seen to the end, as a loss needs", hint="--stats rates")
    if has_ranks and stats == "fired":
        raise UsageError("--stats fired leaves out most outputs, and ranks are those of all", hint="scan with rates")
    if has_initial and is_shared:
        raise UsageError("processes that share the work take no --initial model", hint="scan in one process")
    if until is None:
        return
    reasons = {
        "processes that share the work cannot stop early": is_shared,
        "a scan that stops early cannot judge saturated units": policy.max_saturated is not None,
        "a scan that stops early cannot judge by a definition": policy.definition is not None,
        "a scan that stops early has no gradients over all of the data": has_loss,
        "a scan that stops early cannot be compared with an initial model": has_initial,
    }
    if why := next((why for why, holds in reasons.items() if holds), None):
        raise UsageError(
            why, hint="leave one of the two out" if not is_shared else "scan in one process, or all the data"
        )
