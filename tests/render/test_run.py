"""A watched run drawn: what the terminal, the page and the notebook say of the same windows."""

from __future__ import annotations

import re

from deadrelu.render.notebook import run_cell
from deadrelu.render.run import html
from deadrelu.render.terminal.run import render
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.run import Event, SiteWindow, WatchedRun, Window

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def window(step: int, dead: int, *events: Event, id: str = "relu") -> Window:
    silent = tuple(64 * step if unit < dead else 0 for unit in range(8))
    site = SiteWindow(id=id, units=8, dead=dead, rare=1, saturated=0, firing_rate=0.25, silent_for=silent)
    return Window(step=step, samples=64, counted="training", sites=(site,), events=events)


def died(step: int, *units: int) -> tuple[Event, ...]:
    return tuple(Event(kind="died", step=step, site="relu", unit=unit) for unit in units)


def run(*windows: Window) -> WatchedRun:
    return WatchedRun(windows=windows)


def test_the_outcome_is_what_happened() -> None:
    alive = run(window(1, 0), window(50, 0))
    hurt = run(window(1, 0), window(50, 3, *died(50, 0, 1, 2)))
    back = run(*hurt.windows, window(100, 0, *(Event(kind="revived", step=100, site="relu", unit=u) for u in range(3))))
    gone = run(window(1, 0), window(50, 8, Event(kind="site died", step=50, site="relu")))
    odd = run(window(1, 0, Event(kind="non-finite", step=1, site="relu")))
    born = run(window(1, 2), window(50, 2))
    outcomes = [(alive, "NO DEATHS"), (hurt, "UNITS DIED"), (back, "NO DEATHS"), (gone, "SICK"), (odd, "SICK")]
    for each, outcome in [*outcomes, (born, "SILENT UNITS")]:
        assert outcome in render(each)
        assert outcome in html.render(each, "run.jsonl")
        assert outcome in run_cell(each)
    assert "3 of 8 units (38%) fired on none of the 64 training samples counted at step 50." in " ".join(
        render(hurt).split()
    )
    assert "2 units fired on none of the latest 500 samples or more." in render(born)
    assert "3 units of relu died at step 50" in render(hurt)
    assert "3 deaths of units were seen, and 3 came back." in " ".join(render(back).split())


def test_many_windows_and_events_are_thinned_and_the_rest_is_counted() -> None:
    steps = range(1, 1001)
    many = run(*(window(step, step % 5, *died(step, 0)) for step in steps))
    text = render(many, Screen(width=80))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "988 more" in text
    page = html.render(many, "run.jsonl")
    assert len(re.findall(r'<rect class="h\d+"', page)) == 150
    assert "500 earlier lines not shown." in page


def test_the_course_has_the_largest_share_of_each_part() -> None:
    text = render(run(*(window(step, 8 if step == 7 else 0) for step in range(1, 21))), Screen(width=60, unicode=False))
    row = next(line for line in text.splitlines() if line.startswith(" relu"))
    assert row.count("#") == 1


def test_a_hostile_name_is_shown_and_does_nothing() -> None:
    named = run(window(1, 2, id=HOSTILE))
    for text in (html.render(named, HOSTILE), run_cell(named)):
        assert "<script>" not in text
        assert "\x1b" not in text
    assert "\x1b" not in render(named)
    assert run_cell(WatchedRun(windows=())) == "<p>No step was counted yet.</p>"
