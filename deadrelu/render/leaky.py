"""The leaky activations of a report by kind: their units cannot die, so they are listed and not measured."""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.report import Report
from deadrelu.text.wording import count

TITLE = "Not measured: leaky activations, whose units cannot die"

MOST_NAMED = 8
"""So many sites of a kind are named, the rest are counted."""


@dataclass(frozen=True)
class Kind:
    """The sites of one leaky activation: their first ids, and how many more there are."""

    op: str
    named: tuple[str, ...]
    more: int

    @property
    def rest(self) -> str:
        """How many ids are not named, in words."""
        return f" and {self.more:,} more" if self.more else ""


def kinds(report: Report, most: int = MOST_NAMED) -> list[Kind]:
    """Return the leaky activations in the order in which they first ran, with `most` ids of each."""
    found: dict[str, list[str]] = {}
    for site in report.leaky:
        found.setdefault(site.op, []).append(site.id)
    return [Kind(op, tuple(ids[:most]), max(0, len(ids) - most)) for op, ids in found.items()]


def nothing_can_die(report: Report) -> str:
    """Return the conclusion on a model whose activations are all leaky, without the full stop."""
    ops = ", ".join(kind.op for kind in kinds(report))
    sites = f"all {count(len(report.leaky), 'activation site')} are" if len(report.leaky) > 1 else "the one site is"
    return f"Nothing can die here: {sites} leaky ({ops}), so no unit was measured"
