"""The gate as a function: `check` returns the report of a model that passes, and raises `GateFailed` otherwise."""

from __future__ import annotations

import os
from dataclasses import fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy
from deadrelu.judge.shares import Share

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from deadrelu.report import Report

_WIDTH = 100
_POLICY = {field.name for field in fields(Policy)}
_DEFAULT_LIMIT = Fraction(5, 100)
"""The limit if the caller gives none; compared by identity, so that a caller's own 5% counts as given."""


class GateFailed(AssertionError):  # noqa: N818 - not an error of the program
    """Raised for a model that does not pass. The message is the verdict and the table, `report` the whole report."""

    __module__ = "deadrelu"  # the name that a traceback shows is the one to catch

    def __init__(self, report: Report) -> None:
        """Draw the table now, so that the message is complete."""
        from deadrelu.render.conclusion import headline, verdict_reason
        from deadrelu.render.terminal.screen import Screen
        from deadrelu.render.terminal.table import render

        # The first line is all that pytest's summary and many a log keep of it.
        super().__init__(f"{headline(report)}: {verdict_reason(report)}\n\n{render(report, Screen(width=_WIDTH))}")
        self.report = report

    def __reduce__(self) -> tuple[type[GateFailed], tuple[Report]]:
        """Pickle the report alone, from which the message is made again."""
        return type(self), (self.report,)


def check(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    max_dead: Share | None = _DEFAULT_LIMIT,
    policy: Policy | None = None,
    **options: Any,
) -> Report:
    """Scan `model` over `data` and raise `GateFailed` unless it passes; the report comes back for further assertions.

    `max_dead` is the share of a site's units that may be dead: `0.05`, `"5%"` or a `Fraction`; None leaves only wholly
    dead sites and non-finite values to fail. The `options` are those of `deadrelu.scan` and, where no `policy` is
    given, the fields of `deadrelu.Policy`.

    Raises `GateFailed`, an `AssertionError`, where the gate fails and where every site is a guess that cannot pass; a
    `DeadreluError` where nothing could be measured.
    """
    __tracebackhide__ = True
    from deadrelu.api.scanning import scan

    if policy is None:
        policy = Policy(max_dead=max_dead, **{name: options.pop(name) for name in _POLICY & options.keys()})
    elif max_dead is not _DEFAULT_LIMIT:
        raise UsageError("policy and max_dead were both given", hint="write policy=Policy(max_dead=…), or leave it out")
    where: Any = os.fspath(model) if isinstance(model, os.PathLike) else model
    report = scan(where, data, policy=policy, **options)
    if report.verdict != "pass":
        raise GateFailed(report)
    return report
