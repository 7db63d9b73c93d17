"""The table of sites, with the data that the script sorts by; readable without the script."""

from __future__ import annotations

from collections.abc import Sequence

from deadrelu.judge.gradients import site_gradient
from deadrelu.render.rows import Condition, Row, dead_title, figures, saturated, total_figures
from deadrelu.render.webpage.charts import share, sparkline
from deadrelu.render.webpage.markup import Html, code, el
from deadrelu.report import Report

_SIGNS = {
    Condition.DEAD: ("✗", "wholly dead"),
    Condition.ERROR: ("✗", "error"),
    Condition.WARNING: ("!", "warning"),
    Condition.NOTE: ("·", "note"),
    Condition.HEALTHY: ("✓", "healthy"),
}
_WIDE = "wide"
"""The class of the columns that a narrow screen leaves out; the details of a site have them too."""


def table(report: Report, rows: Sequence[Row], detailed: set[int]) -> Html | None:
    """Return the sites in the order in which they ran; those in `detailed`, by number, link to their details."""
    if not rows:
        return None
    extra = bool(saturated(report))
    heads = (
        ("", "condition", ""),
        ("site", "", ""),
        ("after", "", _WIDE),
        ("units", "", "num"),
        (dead_title(report), "", "num"),
        ("share", "", "share"),
        *((("saturated", "", "num"),) if extra else ()),
        ("rare", "", f"num {_WIDE}"),
        ("always on", "", f"num {_WIDE}"),
        ("firing rates", "", "picture"),
        ("headroom", "", f"num {_WIDE}"),
        *((("gradient", "", "num"),) if report.gradients else ()),
    )
    header = [el("th", text, scope="col", class_=kind or None, aria_label=label or None) for text, label, kind in heads]
    caption = (
        "Sites in the order in which they ran. Firing rates: units in each tenth, 0% left to 100% right, the dead"
        f"{' and the saturated' if extra else ''} left out. Headroom: the largest pre-activation that a dead unit saw."
    )
    caption += " Gradient: the RMS of that of the loss." if report.gradients else ""
    body = [
        _row(place, row, detailed=place in detailed, has_saturated=extra, has_gradients=report.gradients is not None)
        for place, row in enumerate(rows)
    ]
    return el(
        "section",
        el("h2", "Sites"),
        el("div", class_="tools", hidden=True),
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", *header)),
            el("tbody", *body),
            el("tfoot", _totals(report, has_saturated=extra)),
            id="sites",
        ),
    )


def mark(condition: Condition) -> Html:
    """Return the sign of a condition, with its name for screen readers."""
    sign, name = _SIGNS[condition]
    kind = name.replace(" ", "-")
    return el(
        "span",
        el("span", sign, aria_hidden="true"),
        el("span", name, class_="hidden"),
        class_=f"mark {kind}",
        title=name,
    )


def _row(place: int, row: Row, *, detailed: bool, has_saturated: bool, has_gradients: bool) -> Html:
    """The row of a site. A column is sorted by `data-v`."""
    stats, site = row.stats, row.stats.site
    name = code(site.id)
    near, shown = stats.headroom, figures(stats)
    return el(
        "tr",
        el("td", mark(row.condition), data_v=int(row.condition)),
        el("th", el("a", name, href=f"#site-{place}") if detailed else name, scope="row", data_v=site.id),
        el("td", code(site.after or ""), class_=_WIDE, data_v=site.after or ""),
        el("td", f"{site.units:,}", class_="num", data_v=site.units),
        el("td", shown["dead"], class_="num dead" if stats.judged else "num", data_v=stats.judged),
        el("td", share(stats.judged_fraction), class_="share", data_v=f"{stats.judged_fraction:.9g}"),
        el("td", shown["saturated"], class_="num", data_v=stats.saturated) if has_saturated else None,
        el("td", shown["rare"], class_=f"num {_WIDE}", data_v=len(stats.rare_units)),
        el("td", shown["always on"], class_=f"num {_WIDE}", data_v=len(stats.always_on_units)),
        el(
            "td",
            el("strong", "ALL DEAD") if row.is_dead else sparkline(stats),
            class_="picture",
            data_v=f"{sum(rate or 0 for rate in stats.firing_rate) / max(site.units, 1):.9g}",
        ),
        el("td", shown["headroom"], class_=f"num {_WIDE}", data_v="" if near is None else f"{near:.9g}"),
        el("td", shown["gradient"], class_="num", data_v=f"{site_gradient(stats) or 0:.9g}") if has_gradients else None,
        class_="all-dead" if row.is_dead else None,
        data_place=place,
        data_sick=row.is_sick,
    )


def _totals(report: Report, *, has_saturated: bool) -> Html:
    """The row of the sums over all sites."""
    sums = total_figures(report)
    return el(
        "tr",
        el("td"),
        el("th", sums["site"], scope="row"),
        el("td", class_=_WIDE),
        el("td", sums["units"], class_="num"),
        el("td", sums["dead"], class_="num"),
        el("td", el("span", sums["share"], class_="n"), class_="share"),
        el("td", sums["saturated"], class_="num") if has_saturated else None,
        el("td", sums["rare"], class_=f"num {_WIDE}"),
        el("td", sums["always on"], class_=f"num {_WIDE}"),
        el("td", class_="picture"),
        el("td", class_=_WIDE),
        el("td", class_="num") if report.gradients else None,
    )
