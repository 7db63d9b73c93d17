"""The pytest plugin: a fixture `deadrelu` whose `check` fails the test with the table as its message."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from deadrelu.judge.policy import Policy, parse_fraction

if TYPE_CHECKING:
    from deadrelu.report import Report

_WIDTH = 100
_POLICY = {field.name for field in fields(Policy)}


class Checker:
    """What the fixture hands out."""

    def check(
        self, model: object, data: object = None, *, max_dead: float | str | None = 0.05, **options: Any
    ) -> Report:
        """Scan `model` over `data` and fail if the gate does; the report comes back for further assertions.

        `model` and `data` are what `deadrelu.scan` takes, and so are the `options`; those of `deadrelu.Policy` go
        there. `max_dead` is a share in 0..1 or a text such as "5%". Raises `AssertionError` with the table as its
        message, and a `DeadreluError` where nothing could be measured.
        """
        __tracebackhide__ = True
        import deadrelu
        from deadrelu.render import table

        limit = parse_fraction(max_dead) if isinstance(max_dead, str) else max_dead
        policy = Policy(max_dead=limit, **{name: options.pop(name) for name in _POLICY & options.keys()})
        where = os.fspath(model) if isinstance(model, os.PathLike) else model
        report: Report = deadrelu.scan(where, data, policy=policy, **options)  # type: ignore[arg-type]  # it checks
        if report.verdict != "pass":
            raise AssertionError("\n" + table.render(report, width=_WIDTH))
        return report


@pytest.fixture(scope="session")
def deadrelu() -> Checker:
    """`deadrelu.check("model.pt", data="val.npz", max_dead=0.05)` fails the test if units are dead."""
    return Checker()
