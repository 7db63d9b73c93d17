"""The pytest plugin: a fixture `deadrelu` whose `check` fails the test with the table as its message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from deadrelu.report import Report


class Checker:
    """What the fixture hands out."""

    def check(self, model: Any, data: object = None, **options: Any) -> Report:
        """`deadrelu.check`: the report of a model that passes; otherwise the test fails."""
        __tracebackhide__ = True
        import deadrelu

        return deadrelu.check(model, data, **options)


@pytest.fixture(scope="session")
def deadrelu() -> Checker:
    """`deadrelu.check("model.pt", data="val.npz", max_dead=0.05)` fails the test if units are dead."""
    return Checker()
