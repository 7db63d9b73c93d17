"""The report in a notebook: an HTML fragment with its own style, in the colours of the notebook."""

from __future__ import annotations

from deadrelu.render import conclusion as end
from deadrelu.render import gradients
from deadrelu.render.rows import MOST_ROWS, Row, dead_title, figures, saturated, site_rows, total_figures, worst_rows
from deadrelu.render.run import words
from deadrelu.render.webpage.charts import share, sparkline
from deadrelu.render.webpage.heatmap import heat_map
from deadrelu.render.webpage.markup import Html, asset, code, el
from deadrelu.render.webpage.overview import limit
from deadrelu.render.webpage.sites import mark
from deadrelu.report import Report
from deadrelu.report.run import WatchedRun
from deadrelu.text.wording import count

_HEADS = (("", ""), ("site", ""), ("units", "num"), ("dead", "num"), ("share", ""))
_SATURATED = (("saturated", "num"),)
_LAST = (("rare", "num"), ("firing rates", ""), ("headroom", "num"))


def fragment(report: Report) -> str:
    """Return the fragment with a final newline; among many sites the healthy ones are only counted.

    Text has the notebook's own colour, so it is readable in light and dark themes. A notebook that removes the style
    still shows the sentence and the table.
    """
    whole = el(
        "div",
        el("style", Html(asset("notebook.css"))),
        el(
            "div",
            el("b", end.headline(report), class_=end.mood(report)),
            el("span", code(report.model.path or "a model in memory")),
            el("span", f"limit: {limit(report)}", class_="quiet"),
            class_="verdict",
        ),
        el("p", el("strong", end.sentence(end.verdict_reason(report)))),
        el("p", end.conclusion(report)),
        el("p", found) if (found := gradients.in_words(report)) else None,
        _table(report),
        class_="deadrelu-report",
    )
    return f"{whole}\n"


def run_cell(run: WatchedRun) -> str:
    """Return a watched run as a fragment: the outcome and the heat map. A run without a window says so."""
    if not run.windows:
        return str(el("p", "No step was counted yet."))
    whole = el(
        "div",
        el("style", Html(asset("notebook.css") + asset("run.css"))),
        el("div", el("b", words.run_headline(run), class_=words.run_mood(run)), class_="verdict"),
        *(el("p", said) for said in words.run_sentences(run)),
        heat_map(run),
        class_="deadrelu-report",
    )
    return f"{whole}\n"


def _table(report: Report) -> Html | None:
    """The table of the sites that matter, with the totals over all, and how many were left out."""
    rows = site_rows(report)
    if not rows:
        return None
    shown = rows if len(rows) <= MOST_ROWS else worst_rows(rows)
    extra = bool(saturated(report))
    titles = (*_HEADS, *(_SATURATED if extra else ()), *_LAST)
    named = {"dead": dead_title(report)}
    heads = [el("th", named.get(text, text), scope="col", class_=kind or None) for text, kind in titles]
    note = f"… and {count(len(rows) - len(shown), 'healthy site')} without a dead unit"
    return el(
        "div",
        el(
            "table",
            el("thead", el("tr", *heads)),
            el("tbody", *(_row(row, has_saturated=extra) for row in shown)),
            el("tfoot", _totals(report, has_saturated=extra)),
        ),
        el("p", note, class_="quiet") if len(shown) < len(rows) else None,
        class_="frame",
    )


def _row(row: Row, *, has_saturated: bool) -> Html:
    """The row of a site."""
    stats, shown = row.stats, figures(row.stats)
    return el(
        "tr",
        el("td", mark(row.condition)),
        el("th", code(stats.site.id), scope="row"),
        el("td", shown["units"], class_="num"),
        el("td", shown["dead"], class_="num dead" if stats.judged else "num"),
        el("td", share(stats.judged_fraction), class_="share"),
        el("td", shown["saturated"], class_="num") if has_saturated else None,
        el("td", shown["rare"], class_="num"),
        el("td", el("strong", "ALL DEAD") if row.is_dead else sparkline(stats)),
        el("td", shown["headroom"], class_="num"),
    )


def _totals(report: Report, *, has_saturated: bool) -> Html:
    """The row of the sums over all sites, shown or not."""
    sums = total_figures(report)
    return el(
        "tr",
        el("td"),
        el("th", sums["site"], scope="row"),
        el("td", sums["units"], class_="num"),
        el("td", sums["dead"], class_="num"),
        el("td", el("span", sums["share"], class_="n"), class_="share"),
        el("td", sums["saturated"], class_="num") if has_saturated else None,
        el("td", sums["rare"], class_="num"),
        el("td"),
        el("td"),
    )
