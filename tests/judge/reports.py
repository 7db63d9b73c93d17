"""Reports with planted counts, for the laws of merge, baseline and comparison."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from deadrelu.judge.policy import Policy
from deadrelu.judge.statistics import compute_stats
from deadrelu.report import Counts, DataInfo, Report, Site, SiteStats
from tests.conftest import make_report, make_site, make_stats

UNITS = 6
SITES = ("stem.relu", "body:relu#1", "head.relu")


def counts(draw: st.DrawFn, units: int) -> Counts:
    """Counts that a scan could have made: no unit fires in more rows than there are, or more often than positions."""
    samples = draw(st.integers(1, 2000))
    rows = samples * draw(st.sampled_from([1, 5]))
    positions = rows * draw(st.sampled_from([1, 7, 3136]))
    row_fires = tuple(draw(st.lists(st.just(0) | st.integers(0, rows), min_size=units, max_size=units)))
    fires = tuple(draw(st.integers(some, some * (positions // rows))) for some in row_fires)
    return Counts(
        samples=samples,
        rows=rows,
        positions=positions,
        fires=fires,
        row_fires=row_fires,
        maxima=tuple(draw(st.none() | st.floats(-9, 9, width=32)) for _ in range(units)),
        output_sums=tuple(draw(st.floats(0, 1e6, width=32)) for _ in range(units)),
        nonfinite=tuple(draw(st.sampled_from([0, 0, 0, 1])) for _ in range(units)),
    )


@st.composite
def measured(draw: st.DrawFn, source: str | None = None) -> tuple[Report, dict[str, Counts]]:
    """A report of one model on some data, and the counts that it was made from."""
    sites: dict[str, Site] = {name: make_site(name, UNITS) for name in SITES}
    counted = {name: counts(draw, UNITS) for name in SITES}
    samples = counted[SITES[0]].samples
    report = make_report(
        [compute_stats(sites[name], counted[name], rare_below=0.01, confidence=0.95) for name in SITES],
        policy=Policy(max_dead=0.05, limits=(("head.*", 0.5),)),
        data=DataInfo(
            source=source or draw(st.sampled_from(["a.npz", "b.npz", None])),
            kind="dataset",
            samples=samples,
            batches=draw(st.integers(1, 9)),
            seed=draw(st.sampled_from([None, 1, 2])),
        ),
    )
    return report, counted


def dead_report(dead: dict[str, tuple[int, ...]], *, units: int = UNITS, policy: Policy | None = None) -> Report:
    """A report of sites whose dead units are given; the others fire at half of their positions."""
    return make_report(
        [
            compute_stats(
                make_site(name, units),
                Counts(
                    samples=400,
                    rows=400,
                    positions=400,
                    fires=tuple(0 if unit in gone else 200 for unit in range(units)),
                    row_fires=tuple(0 if unit in gone else 200 for unit in range(units)),
                    maxima=(1.0,) * units,
                    output_sums=(1.0,) * units,
                    nonfinite=(0,) * units,
                ),
                rare_below=0.01,
                confidence=0.95,
            )
            for name, gone in dead.items()
        ],
        policy=policy,
    )


def saturated_site(
    name: str = "head.tanh", *, low: int = 2, high: int = 1, units: int = 16, dead: int = 0
) -> SiteStats:
    """A site whose first units are stuck low, the next ones high, and the next ones dead; the others fire."""
    stuck = low + high
    stats = make_stats(make_site(name, units, op="tanh"), [0.0] * (stuck + dead) + [0.5] * (units - stuck - dead))
    maxima = (*(-5.0,) * low, *(6.0,) * high, *stats.max_preactivation[stuck:])
    return replace(
        stats,
        dead_units=stats.dead_units[stuck:],
        saturated_units=tuple(range(stuck)),
        saturated_high_units=tuple(range(low, stuck)),
        max_preactivation=maxima,
        min_preactivation=tuple(-9.0 if top is None else top - 1 for top in maxima),
    )


def of_other_bytes(report: Report) -> Report:
    """The same, of a file with another hash."""
    return replace(report, model=replace(report.model, sha256="0" * 64))
