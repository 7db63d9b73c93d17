"""What one window counted, site by site, as arrays; the counts of several processes add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deadrelu.judge.policy import Policy
from deadrelu.measure.measurement import SiteCounts
from deadrelu.measure.tally import Tally
from deadrelu.report.run import SiteWindow
from deadrelu.training.monitor.lives import SiteFires

_RARE_BELOW = Policy().rare_below


@dataclass(frozen=True)
class WindowCounts(SiteFires):
    """One site in one window. The arrays have an entry for each unit, with the names of `report.site.Counts`."""

    after: str | None
    positions: int
    fires: NDArray[np.int64]

    @classmethod
    def of_tally(cls, id: str, tally: Tally) -> WindowCounts:
        """What the counters of a site hold. Waits for a GPU."""
        figures = tally.figures()
        fires, row_fires, nonfinite = (x.cpu().numpy() for x in (figures.fires, figures.row_fires, figures.nonfinite))
        saturates = tally.saturates(figures)
        sloped = None if saturates is False else torch.as_tensor(saturates).cpu().expand(tally.units).numpy()
        seen = tally.rows, tally.samples, row_fires, nonfinite, sloped
        return cls(id, *seen, tally.site.after, tally.positions, fires)

    @classmethod
    def of_site(cls, site: SiteCounts) -> WindowCounts:
        """What a scan counted at a site."""
        counts = site.counts
        row_fires, nonfinite, fires = (
            np.array(each, dtype=np.int64) for each in (counts.row_fires, counts.nonfinite, counts.fires)
        )
        sloped = np.array(counts.sloped, dtype=bool) if counts.sloped else None
        seen = counts.rows, counts.samples, row_fires, nonfinite, sloped
        return cls(site.site.id, *seen, site.site.after, counts.positions, fires)

    def plus(self, other: WindowCounts) -> WindowCounts:
        """The counts of both, which are of the same site."""
        sloped = [each for each in (self.sloped, other.sloped) if each is not None]
        return WindowCounts(
            self.id,
            self.rows + other.rows,
            self.samples + other.samples,
            self.row_fires + other.row_fires,
            self.nonfinite + other.nonfinite,
            np.logical_or.reduce(sloped) if sloped else None,
            self.after,
            self.positions + other.positions,
            self.fires + other.fires,
        )

    def window(self, silent_for: NDArray[np.int64]) -> SiteWindow:
        """The site as a window shows it: dead, rare and saturated are those of a scan (`judge.statistics`)."""
        fires, units = self.fires, len(self.fires)
        dead = int(np.count_nonzero(self.silent))
        flat = int(np.count_nonzero((fires == 0) & (self.nonfinite == 0)))
        fired_little = np.count_nonzero(fires < _RARE_BELOW * self.positions)
        return SiteWindow(
            id=self.id,
            units=units,
            dead=dead,
            rare=int(fired_little - units + np.count_nonzero(fires)),
            saturated=flat - dead,
            firing_rate=int(fires.sum()) / (units * self.positions),
            silent_for=tuple(silent_for.tolist()),
            nonfinite=int(np.count_nonzero(self.nonfinite)),
        )


def add_up(parts: Iterable[Sequence[WindowCounts]]) -> list[WindowCounts]:
    """The counts of several processes, site by site; of a site that has other units in one of them, the first's."""
    met: dict[str, WindowCounts] = {}
    for counts in (counts for part in parts for counts in part):
        known = met.get(counts.id)
        if known is None:
            met[counts.id] = counts
        elif len(known.fires) == len(counts.fires):
            met[counts.id] = known.plus(counts)
    return list(met.values())
