"""The arms that a scan of the model suggests, in the order of the advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deadrelu.activations import KEEP
from deadrelu.judge.gradients import flow_of
from deadrelu.remedy.causes import cause_of
from deadrelu.report import Report
from deadrelu.training.trial.grammar import Arm, parse_arms

MOST_ARMS = 6
"""No more arms than this are chosen, `keep` among them: each one makes the others harder to prove."""

_FOR_SICK = ("reinit", "reinit+norm+lr:3x", "init:he+lr:3x", "leaky_relu:0.01")
"""The arms for dead units. Fresh units learn sooner by a higher rate (benchmarks/trial_search.py)."""

_FOR_CAUSE = {"bias": "reinit+bias:0.1", "norm": "reinit+lr:3x", "cap": "gelu"}
"""The arm that removes a cause of dead units too."""


def suggested_arms(report: Report) -> tuple[Arm, ...]:
    """The arms to try on the model of this report, the baseline first; at most `MOST_ARMS`."""
    words = dict.fromkeys((KEEP, *_words(report)))
    return parse_arms(list(words)[:MOST_ARMS])


def _words(report: Report) -> Iterator[str]:
    sick = [stats for stats in report.sites if stats.dead]
    if sick:
        yield from _FOR_SICK
    else:
        yield "leaky_relu:0.01"
    flow = flow_of(report)
    if flow is not None and flow.ratio > 10:
        yield "clip:auto"
    causes = Counter(cause_of(stats) for stats in sick)
    yield from (_FOR_CAUSE[cause] for cause, _ in causes.most_common() if cause in _FOR_CAUSE)
    yield "leaky_relu:0.01+reinit" if sick else "gelu"
