"""The figures of a report as a pandas data frame: one row per site, or one row per unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deadrelu.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

    from deadrelu.report import Report, SiteStats

_OF_SITES = {
    "site": "",
    "op": "",
    "module": "",
    "call": "int64",
    "after": "",
    "source": "",
    "units": "int64",
    "dead": "int64",
    "dead_fraction": "float64",
    "saturated": "int64",
    "rare": "int64",
    "always_on": "int64",
    "nonfinite": "int64",
    "firing_rate": "float64",
    "headroom": "float64",
    "silence_bound": "float64",
    "samples": "int64",
    "positions": "int64",
    "guessed": "bool",
}
"""The columns of a site and their types. `firing_rate` is the mean over its units.

The type of text is left to pandas: versions 2 and 3 differ."""

_OF_UNITS = {
    "site": "",
    "unit": "int64",
    "dead": "bool",
    "saturated": "bool",
    "rare": "bool",
    "always_on": "bool",
    "nonfinite": "bool",
    "firing_rate": "float64",
    "sample_rate": "float64",
    "max_preactivation": "float64",
    "mean_activation": "float64",
    "dormancy": "float64",
    "min_preactivation": "float64",
    "cause": "",
}
_BY_DEFINITION = "dead_by_definition"
"""The last column where the report was judged by another definition of "dead": the number of such units, or whether
the unit is one."""

_KINDS = ("dead_units", "saturated_units", "rare_units", "always_on_units", "nonfinite_units")
_FIGURES = ("firing_rate", "sample_rate", "max_preactivation", "mean_activation", "dormancy", "min_preactivation")


def site_frame(report: Report) -> DataFrame:
    """Return a frame with one row per site, in the order in which they ran."""
    rows = (_site(stats) for stats in report.sites)
    if not report.settings.get("definition"):
        return _frame(rows, _OF_SITES)
    judged = (stats.judged for stats in report.sites)
    return _frame(((*row, n) for row, n in zip(rows, judged, strict=True)), {**_OF_SITES, _BY_DEFINITION: "int64"})


def unit_frame(report: Report) -> DataFrame:
    """Return a frame with one row per unit, site by site."""
    rows = (row for stats in report.sites for row in _units(stats))
    if not report.settings.get("definition"):
        return _frame(rows, _OF_UNITS)
    sets = ((set(stats.judged_units), stats.site.units) for stats in report.sites)
    judged = (unit in dead for dead, units in sets for unit in range(units))
    return _frame(
        ((*row, is_in) for row, is_in in zip(rows, judged, strict=True)), {**_OF_UNITS, _BY_DEFINITION: "bool"}
    )


def _site(stats: SiteStats) -> tuple[Any, ...]:
    """The row of a site, in the order of `_OF_SITES`."""
    site, source = stats.site, stats.site.source
    rates = [rate for rate in stats.firing_rate if rate is not None]
    return (
        site.id,
        site.op,
        site.module,
        site.call,
        site.after,
        f"{source.file}:{source.line}" if source else None,
        site.units,
        stats.dead,
        stats.dead_fraction,
        stats.saturated,
        len(stats.rare_units),
        len(stats.always_on_units),
        len(stats.nonfinite_units),
        sum(rates) / len(rates) if len(rates) == site.units else None,
        stats.headroom,
        stats.silence_bound,
        stats.samples,
        stats.positions,
        site.is_guessed,
    )


def _units(stats: SiteStats) -> Iterator[tuple[Any, ...]]:
    """The rows of a site's units, in the order of `_OF_UNITS`."""
    kinds = [set(getattr(stats, name)) for name in _KINDS]
    unknown = (None,) * stats.site.units
    figures: Sequence[Sequence[float | None]] = [getattr(stats, name) or unknown for name in _FIGURES]
    causes = {found.unit: found.cause for found in stats.causes}
    for unit in range(stats.site.units):
        of_unit = (figure[unit] for figure in figures)
        yield (stats.site.id, unit, *(unit in kind for kind in kinds), *of_unit, causes.get(unit))


def _frame(rows: Iterator[tuple[Any, ...]], columns: Mapping[str, str]) -> DataFrame:
    """Make the frame; its columns have the same types without any row. Raises `UsageError` without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError(
            f"Report.to_pandas needs pandas, which cannot be imported: {error}", hint="pip install pandas"
        ) from error
    types = {name: kind for name, kind in columns.items() if kind}
    return pandas.DataFrame(list(rows), columns=list(columns)).astype(types)
