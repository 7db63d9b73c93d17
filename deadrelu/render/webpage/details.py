"""The details of each site: map, histogram, figures, dead units by number, findings."""

from __future__ import annotations

from collections.abc import Sequence

from deadrelu.render.causes import main_cause, units_by_cause
from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.rows import Row
from deadrelu.render.webpage.charts import histogram
from deadrelu.render.webpage.markup import Html, code, el, facts
from deadrelu.render.webpage.overview import findings
from deadrelu.render.webpage.sites import mark
from deadrelu.render.webpage.unitmap import legend, most_cells, unit_map
from deadrelu.report import Finding, Report, Site, SiteStats
from deadrelu.text.wording import count, percent, ranges

MOST_DETAILS = 300
"""With more sites than this, healthy ones have no details."""

MOST_OPEN = 12
"""So many sick sites are unfolded from the start."""

MOST_BESIDE = 512
"""Up to so many units, the histogram fits beside the map; a larger map has the whole width."""

MOST_RUNS = 150
"""With more runs of unit numbers than this, the rest are counted."""


def detailed(rows: Sequence[Row]) -> set[int]:
    """Return the numbers of the sites with details: all of them, or `MOST_DETAILS`, the sick first."""
    order = sorted(range(len(rows)), key=lambda n: not rows[n].is_sick)
    return set(order[:MOST_DETAILS])


def details(report: Report, rows: Sequence[Row], chosen: set[int]) -> Html | None:
    """Return the details of the chosen sites in the order in which they ran; healthy ones are folded."""
    if not rows:
        return None
    found: dict[str | None, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.site, []).append(finding)
    ill = [n for n, row in enumerate(rows) if row.is_sick]
    opened, most = set(ill[:MOST_OPEN]), most_cells(report)
    parts = [
        _site(n, row, found.get(row.stats.site.id, []), most, unfolded=n in opened)
        for n, row in enumerate(rows)
        if n in chosen
    ]
    left = len(rows) - len(chosen)
    note = f"{count(left, 'more site is', 'more sites are')} only in the table; the JSON report has every unit."
    return el(
        "section",
        el("h2", "Units"),
        legend(report),
        *parts,
        el("p", note, class_="quiet") if left else None,
        id="units",
    )


def _site(place: int, row: Row, found: Sequence[Finding], most: int, *, unfolded: bool) -> Html:
    """The details of a site. The anchor is inside the fold, because browsers then unfold it on a link."""
    stats, site = row.stats, row.stats.site
    dead = f"{stats.dead:,} of {count(site.units, 'unit')} dead"
    dead += f" ({percent(stats.dead_fraction)})" if stats.dead else ""
    dead += f", {stats.saturated:,} saturated" if stats.saturated else ""
    wide = "full-figure" if site.units > MOST_BESIDE else "wide-figure"
    return el(
        "details",
        el("summary", mark(row.condition), code(site.id), el("span", dead, class_="quiet")),
        el(
            "div",
            findings(found) if found else None,
            el(
                "div",
                el("figure", el("figcaption", "Units by firing rate"), unit_map(stats, most), class_=wide),
                el("figure", el("figcaption", "Units in each tenth of the firing rate"), histogram(stats)),
                class_="figures",
            ),
            _facts(stats),
            class_="inside",
            id=f"site-{place}",
        ),
        class_="site",
        open=unfolded,
        data_place=place,
    )


def _facts(stats: SiteStats) -> Html:
    """The figures of a site; empty lists of units are left out."""
    site = stats.site
    source = f"{site.source.file}:{site.source.line}" if site.source else None
    shape = " × ".join(str(size) for size in site.shape)
    near = stats.headroom
    nearest = next((unit for unit in stats.dead_units if stats.max_preactivation[unit] == near), None)
    return facts(
        ("Dead units", ranges(stats.dead_units, limit=MOST_RUNS)),
        ("Headroom", f"{BLOCKS.number(near)}, of unit {nearest}" if near is not None else None),
        ("Why", BLOCKS.sentence(main_cause(stats))),
        *((f"Cause: {cause}", ranges(units, limit=MOST_RUNS)) for cause, units in units_by_cause(stats)),
        ("Saturated units", ranges(stats.saturated_units, limit=MOST_RUNS)),
        ("Saturated low", ranges(stats.saturated_low_units, limit=MOST_RUNS)),
        ("Saturated high", ranges(stats.saturated_high_units, limit=MOST_RUNS)),
        ("Rare units", ranges(stats.rare_units, limit=MOST_RUNS)),
        ("NaN or infinite", ranges(stats.nonfinite_units, limit=MOST_RUNS)),
        ("Without gradient", ranges(stats.zero_gradient_units, limit=MOST_RUNS)),
        ("Always on", f"{len(stats.always_on_units):,} of {site.units:,}" if stats.always_on_units else None),
        ("Activation", site.op + (f" after {site.after}" if site.after else "")),
        ("Source", source),
        ("Shape", f"{shape}, {_where(site)}"),
        ("Measured", f"{count(stats.samples, 'sample')}, {count(stats.positions, 'position')} of each unit"),
        ("Silence bound", _bound(stats)),
    )


def _where(site: Site) -> str:
    """Say which axis holds the units, and whether that is a guess."""
    if site.feature_axis is None:
        return "a single unit"
    return f"units on axis {site.feature_axis}{', which is a guess' if site.is_guessed else ''}"


def _bound(stats: SiteStats) -> str | None:
    """Say what silence at this site proves."""
    if not stats.dead or stats.silence_bound >= 1:
        return None
    return f"a dead unit fires on fewer than {percent(stats.silence_bound)} of fresh samples, if they are independent"
