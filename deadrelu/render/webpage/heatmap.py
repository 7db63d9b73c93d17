"""The heat map of a watched run: a row for each site, a cell for each window, a tick where a unit died."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict

from deadrelu.render.run.words import dead_shares, thinned
from deadrelu.render.webpage.chart_axis import linear_axis
from deadrelu.render.webpage.markup import Html, code, el
from deadrelu.report.run import WatchedRun
from deadrelu.text.wording import count, percent

_MOST_CELLS = 150
"""Of more windows than this, a cell stands for several, and has the largest share of them."""

_HEIGHT, _ROOM = 20, 26
_SHADES = 10


def heat_map(run: WatchedRun) -> Html:
    """Return the map as a table; a screen reader gets each row as one picture with its first and last share."""
    steps = [window.step for window in run.windows]
    died: dict[str, Counter[int]] = defaultdict(Counter)
    for event in run.events:
        if event.kind == "died" and event.site is not None:
            died[event.site][event.step] += 1
    rows = [_row(id, course, died[id], steps) for id, course in dead_shares(run).items()]
    return el(
        "div",
        el("table", el("tbody", *rows), el("tfoot", _axis(steps)), class_="heat"),
        _legend(),
        class_="frame",
    )


def _row(id: str, course: list[float | None], died: Counter[int], steps: list[int]) -> Html:
    """A site: its name, its cells with ticks below the steps at which units died, and its last share."""
    cells = thinned(course, _MOST_CELLS)
    width = 1000 / len(cells)
    drawn = "".join(_cell(share, place, width) for place, share in enumerate(cells))
    ticks = "".join(_tick(step, number, steps) for step, number in sorted(died.items()))
    known = [share for share in course if share is not None]
    label = f"{id}: {percent(known[0])} dead at first, {percent(known[-1])} at last"
    if died:
        label += f"; {count(sum(died.values()), 'death')}, the first at step {min(died):,}"
    picture = (
        f'<svg viewBox="0 0 1000 {_ROOM}" preserveAspectRatio="none" role="img">'
        f"{el('title', label)}{drawn}{ticks}</svg>"
    )
    return el(
        "tr",
        el("th", code(id), scope="row"),
        el("td", Html(picture), class_="cells"),
        el("td", percent(known[-1]), class_="num"),
    )


def _cell(share: float | None, place: int, width: float) -> str:
    """The rectangle of one cell; nothing where the site did not run."""
    if share is None:
        return ""
    shade = 0 if share == 0 else max(1, round(share * _SHADES))
    return f'<rect class="h{shade}" x="{place * width:.1f}" y="0" width="{width + 0.3:.1f}" height="{_HEIGHT}"/>'


def _tick(step: int, number: int, steps: list[int]) -> str:
    """A tick below the window of a step; wider where more than one unit died."""
    place = min(bisect_left(steps, step), len(steps) - 1)
    middle, half = (place + 0.5) * 1000 / len(steps), 1.2 + min(number, 10) * 0.25
    size = f'width="{2 * half:.1f}" height="{_ROOM - _HEIGHT - 1}"'
    return f'<rect class="tick" x="{middle - half:.1f}" y="{_HEIGHT + 1}" {size}/>'


def _axis(steps: list[int]) -> Html:
    """The row with the steps."""
    axis = linear_axis(steps[0], steps[-1], most=6, exact=True)
    marks = [
        f'<span style="left:{100 * axis.place(tick):.1f}%">{int(tick):,}</span>' for tick in axis.ticks if tick >= 1
    ]
    marks = marks or [f'<span style="left:50%">{steps[-1]:,}</span>']
    return el("tr", el("td"), el("td", Html("".join(marks)), class_="steps"), el("td", "last", class_="num"))


def _legend() -> Html:
    """What the shades and the ticks mean."""
    scale = Html("".join(f'<i class="h{n}"></i>' for n in range(_SHADES + 1)))
    tick = Html('<i class="tick"></i>')
    return el(
        "p",
        "dead share 0% ",
        el("span", scale, class_="scale"),
        " 100%; ",
        tick,
        " a unit died",
        class_="quiet",
    )
