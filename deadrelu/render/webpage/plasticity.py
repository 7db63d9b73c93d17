"""The table of ranks and weights on the page: one row for each site that has any."""

from __future__ import annotations

from collections.abc import Sequence

from deadrelu.render.plasticity import plasticity_columns, plasticity_figures, plasticity_sentences, ranked_or_weighed
from deadrelu.render.rows import Row
from deadrelu.render.webpage.markup import Html, code, el
from deadrelu.report import Report


def plasticity_section(report: Report, rows: Sequence[Row], detailed: set[int]) -> Html | None:
    """Return the ranks and the weights of each site; None if no site has any. Those in `detailed` are links."""
    known = ranked_or_weighed(report)
    if not known:
        return None
    figures = [plasticity_figures(stats) for stats in known]
    columns = plasticity_columns(figures)
    places = {rows[place].stats.site.id: place for place in detailed}
    body = []
    for stats, shown in zip(known, figures, strict=True):
        place, name = places.get(stats.site.id), code(stats.site.id)
        link = name if place is None else el("a", name, href=f"#site-{place}")
        numbers = (el("td", shown[column], class_="num") for column in columns)
        body.append(el("tr", el("th", link, scope="row"), *numbers))
    heads = (el("th", "site", scope="col"), *(el("th", column, scope="col", class_="num") for column in columns))
    table = el(
        "table",
        el("caption", plasticity_sentences(columns)),
        el("thead", el("tr", *heads)),
        el("tbody", *body),
    )
    return el("section", el("h2", "Plasticity"), el("div", table, class_="scrolled"), id="plasticity")
