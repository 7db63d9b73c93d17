"""The leaky activations of a report: named by kind, since no unit of theirs dies and none is measured."""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.report import Report
from deadrelu.text.wording import count

TITLE = "Not measured: leaky, so no unit of theirs dies"

MOST_NAMED = 8
"""Of more sites of one kind the rest are only counted."""


@dataclass(frozen=True)
class Kind:
    """The sites of one leaky activation: the first of their ids, and how many more there are."""

    op: str
    named: tuple[str, ...]
    more: int

    @property
    def rest(self) -> str:
        """What is said of the ids that are not named."""
        return f" and {self.more:,} more" if self.more else ""


def kinds(report: Report, most: int = MOST_NAMED) -> list[Kind]:
    """The leaky activations in the order in which they first ran, with `most` ids of each."""
    found: dict[str, list[str]] = {}
    for site in report.leaky:
        found.setdefault(site.op, []).append(site.id)
    return [Kind(op, tuple(ids[:most]), max(0, len(ids) - most)) for op, ids in found.items()]


def nothing_can_die(report: Report) -> str:
    """The conclusion on a model of which every activation leaks, without the full stop."""
    ops = ", ".join(kind.op for kind in kinds(report))
    sites = f"all {count(len(report.leaky), 'activation site')} leak" if len(report.leaky) > 1 else "the one site leaks"
    return f"Nothing can die here in this sense: {sites} ({ops}), and no unit was measured"
