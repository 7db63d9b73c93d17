"""A watched run for a terminal: a line for each site with its course, the latest events, and the outcome."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from deadrelu.render.run import words
from deadrelu.render.terminal.columns import column_of, course_column, fit
from deadrelu.render.terminal.page import outcome, page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.run import SiteWindow, WatchedRun
from deadrelu.text.wording import count, percent

_MOST_EVENTS = 12


def render(run: WatchedRun, screen: Screen = Screen(), *, events: int = _MOST_EVENTS) -> str:
    """Return the run as text, with at most so many `events`."""
    return page([_head(run, screen), _table(run, screen), _events(run, screen, events), _end(run, screen)], screen)


def _head(run: WatchedRun, screen: Screen) -> Iterator[Text]:
    """Yield how far the run is."""
    first, last, dot = run.windows[0], run.windows[-1], screen.glyphs.dot
    of = "training batches" if last.counted == "training" else "a probe"
    parts = [f"steps {first.step:,} to {last.step:,}", count(len(run.windows), "window"), of]
    if last.gradient_norm is not None:
        parts.append(f"gradient norm {last.gradient_norm:.3g}")
    yield from paragraph(Text(screen.text(dot.join(parts)), "bold"), screen, first=Text("run  ", "dim"))


def _table(run: WatchedRun, screen: Screen) -> Iterator[Text]:
    """Yield a line for each site; the courses have one scale, so that sites can be compared."""
    shares = words.dead_shares(run)
    top = max((share for course in shares.values() for share in course if share is not None), default=0.0) or 1.0
    last = {site.id: site for window in run.windows for site in window.sites}
    rows = [_cells(site, screen) for site in last.values()]
    points = len(run.windows)
    columns = [
        column_of("site", rows, rank=0, least=12, gap=1),
        course_column(points),
        column_of("units", rows, rank=4, right=True),
        column_of("dead", rows, rank=0, right=True),
        column_of("share", rows, rank=2, right=True),
        column_of("rare", rows, rank=5, right=True),
        column_of("fires", rows, rank=3, right=True),
        column_of("silent", rows, rank=6, right=True),
        column_of("update", rows, rank=7, right=True),
    ]
    columns = [c for c in columns if c.key != "update" or any(row["update"] for row in rows)]
    grid = fit(columns, screen.width)
    width = grid.widths.get("course", 0)
    cells = []
    for (id, course), row in zip(shares.items(), rows, strict=True):
        style = "bold red" if last[id].dead == last[id].units else "red" if last[id].dead else ""
        line = {key: Text(value, style if key in ("site", "dead", "share") else "dim") for key, value in row.items()}
        cells.append(line | {"course": Text(_course(words.thinned(course, width), top, screen), style or "cyan")})
    yield from grid.draw(cells, None, screen)
    note = f"course: dead share by window, from 0% to {percent(top)}; fires: mean firing rate;"
    note += " silent: samples since the longest silent unit fired"
    yield from paragraph(Text(screen.text(note), "dim"), screen, first=" ")


def _cells(site: SiteWindow, screen: Screen) -> dict[str, str]:
    """The text of each column for a site."""
    return {
        "site": screen.text(site.id),
        "units": f"{site.units:,}",
        "dead": f"{site.dead:,}",
        "share": percent(site.dead / site.units),
        "rare": f"{site.rare:,}",
        "fires": percent(site.firing_rate),
        "silent": f"{max(site.silent_for):,}" if site.silent_for else screen.glyphs.dash,
        "update": "" if site.update is None else f"{site.update:.1e}",
    }


def _events(run: WatchedRun, screen: Screen, most: int) -> Iterator[Text]:
    """Yield the latest events."""
    shown, left = words.told(run, most)
    if not shown:
        return
    yield Text("Events", "bold")
    if left:
        yield Text(screen.text(f" {screen.glyphs.ellipsis} {left:,} more"), "dim")
    for line in shown:
        style = "green" if line.is_good else "bold red" if line.is_large else "red"
        yield from paragraph(Text(screen.sentence(line.text), style), screen, first=f" {screen.glyphs.note} ")


def _end(run: WatchedRun, screen: Screen) -> Iterator[Text]:
    """Yield the outcome."""
    yield from outcome(words.run_headline(run), words.run_mood(run), words.run_sentences(run), screen)


def _course(values: list[float | None], top: float, screen: Screen) -> str:
    """The course: a column for each value."""
    return "".join(" " if value is None else screen.glyphs.level(value / top) for value in values)
