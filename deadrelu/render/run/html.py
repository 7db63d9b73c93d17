"""A watched run as one self-contained HTML page: the heat map, the sites, the events."""

from __future__ import annotations

from deadrelu.render.run import words
from deadrelu.render.webpage.document import document
from deadrelu.render.webpage.heatmap import heat_map
from deadrelu.render.webpage.markup import Html, code, el, facts
from deadrelu.render.webpage.verdict import page_verdict
from deadrelu.report.run import WatchedRun
from deadrelu.text.wording import count, percent
from deadrelu.version import __version__

_MOST_EVENTS = 500


def render(run: WatchedRun, name: str = "") -> str:
    """Return the page with a final newline; `name` is that of the run."""
    body = (_verdict(run, name), _measured(run), _map(run), _sites(run), _events(run))
    footer = el("footer", el("p", f"deadrelu {__version__}"))
    return document(f"{words.run_headline(run)}: {name} (deadrelu)", body, footer, styles=("style.css", "run.css"))


def _verdict(run: WatchedRun, name: str) -> Html:
    """The outcome."""
    mood = words.run_mood(run)
    first, *others = words.run_sentences(run)
    reasons = el("p", first, class_="reason"), el("p", " ".join(others), class_="conclusion")
    return page_verdict("deadrelu trend", name, mood, words.run_headline(run), *reasons)


def _measured(run: WatchedRun) -> Html:
    """What was counted, and when."""
    first, last = run.windows[0], run.windows[-1]
    norm = last.gradient_norm
    return el(
        "section",
        el("h2", "What was measured", class_="hidden"),
        facts(
            ("Steps", f"{first.step:,} to {last.step:,}"),
            ("Windows", f"{len(run.windows):,}"),
            ("Counted on", "the training batches" if last.counted == "training" else "a probe, in eval mode"),
            ("Gradient norm", None if norm is None else f"{norm:.3g}"),
        ),
        class_="measured",
    )


def _map(run: WatchedRun) -> Html:
    return el("section", el("h2", "Dead units over the steps"), heat_map(run))


def _sites(run: WatchedRun) -> Html:
    """The last window site by site."""
    heads = ("site", "units", "dead", "share", "rare", "saturated", "firing rate")
    rows = [
        el(
            "tr",
            el("th", code(site.id), scope="row"),
            *(
                el("td", text, class_="num")
                for text in (
                    f"{site.units:,}",
                    f"{site.dead:,}",
                    percent(site.dead / site.units),
                    f"{site.rare:,}",
                    f"{site.saturated:,}",
                    percent(site.firing_rate),
                )
            ),
        )
        for site in run.windows[-1].sites
    ]
    head = el("tr", *(el("th", text, scope="col", class_="num" if n else None) for n, text in enumerate(heads)))
    title = f"The window at step {run.windows[-1].step:,}"
    return el("section", el("h2", title), el("div", el("table", el("thead", head), el("tbody", *rows)), class_="frame"))


def _events(run: WatchedRun) -> Html | None:
    """All events, or the latest."""
    shown, left = words.told(run, _MOST_EVENTS)
    if not shown:
        return None
    note = el("p", f"{count(left, 'earlier line')} not shown.", class_="quiet") if left else None
    return el("section", el("h2", "Events"), note, el("ol", *map(_line, shown), class_="events"))


def _line(line: words.Told) -> Html:
    return el("li", line.text, class_="good" if line.is_good else "bad" if line.is_large else None)
