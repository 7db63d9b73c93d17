"""A trial as Markdown and as a web page: complete, without requests, and no name can break either."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.render.markdown import MOST_CHARACTERS
from deadrelu.render.trial import html as trial_html
from deadrelu.render.trial import markdown as trial_markdown
from deadrelu.render.trial.whiskers import whisker_scale
from deadrelu.render.webpage.chart_axis import linear_axis, log_axis
from deadrelu.render.webpage.curves import MOST_COLOURED, arm_styles, courses, line_chart
from deadrelu.report.trial import CurvePoint, Trial
from tests.render.test_html import HOSTILE, Page
from tests.render.trials import by_loss, crowd, make_arm, make_run, make_trial, nothing_better, one_seed, unknown

Golden = Callable[[str, str], None]
TRIALS = {f.__name__: f for f in (make_trial, nothing_better, by_loss, one_seed, unknown, crowd)}
every_trial = pytest.mark.parametrize("make", TRIALS.values(), ids=TRIALS)


def renamed(trial: Trial, raw: str) -> Trial:
    """The trial with `raw` in every place where a name from the user can stand."""
    arms = [replace(arm, name=f"{n}{raw}", recipe=raw, command=raw) for n, arm in enumerate(trial.arms)]
    failed = replace(arms[4].runs[4], failed=raw)
    arms[4] = replace(arms[4], runs=(*arms[4].runs[:4], failed))
    return replace(
        trial,
        arms=tuple(arms),
        winner=f"2{raw}",
        metric=replace(trial.metric, name=raw, method=raw),
        model=replace(trial.model, path=raw, format=raw, sha256=raw),
        data=replace(trial.data, train=raw, val=raw),
        settings={raw: raw},
        notes=(raw,),
    )


def test_a_trial_is_written_as_markdown_and_as_a_page(golden: Golden) -> None:
    golden("trial.md", trial_markdown.render(make_trial()))
    golden("trial-nothing-better.md", trial_markdown.render(nothing_better()))
    golden("trial.html", trial_html.render(make_trial()))


@every_trial
def test_every_arm_is_named_in_markdown_and_on_the_page(make: Callable[[], Trial]) -> None:
    trial = make()
    text = trial_markdown.render(trial)
    page = " ".join("".join(Page(trial_html.render(trial)).text).split())
    for arm in trial.arms:
        assert f"`{arm.name}`" in text
        assert arm.name in page
    assert text.endswith("\n")
    assert not re.search("None|nan|inf(?!inity)", text)
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b", page)


def test_a_huge_trial_still_fits_into_a_comment() -> None:
    arms = [make_arm("keep", [make_run(0, 0.9)], "baseline")]
    arms += [make_arm(f"{n}" + "x" * 400, [replace(make_run(0, 0.9), failed="y" * 400)]) for n in range(300)]
    text = trial_markdown.render(make_trial(tuple(arms), winner=None))
    assert len(text) < MOST_CHARACTERS
    assert re.search(r"… and \d+ more arms, left out here", text)
    assert re.search(r"… and \d+ more lines, left out here", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_cell_to_the_markdown(name: str) -> None:
    def cells(raw: str) -> list[int]:
        lines = trial_markdown.render(renamed(make_trial(), raw)).splitlines()
        return [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]

    assert cells(name) == cells("plain")
    assert cells(f"a|b{name}") == cells("plain")
    assert "\x00" not in trial_markdown.render(renamed(make_trial(), name))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_element_and_no_attribute_to_the_page(name: str) -> None:
    def shape(raw: str) -> list[tuple[str, list[str]]]:
        parsed = Page(trial_html.render(renamed(make_trial(), raw)).encode().decode())
        return [(tag, sorted(attributes)) for tag, attributes in parsed.tags]

    assert shape(name) == shape("plain")


@every_trial
def test_the_page_makes_no_requests_and_runs_no_script(make: Callable[[], Trial]) -> None:
    text = trial_html.render(make())
    page = Page(text)
    for _, attributes in page.tags:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), attributes
    assert "url(" not in text
    assert page.of("script") == []
    (policy,) = (a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    pictures = [a for _, a in page.tags if a.get("role") == "img"]
    assert all(a.get("aria-label") for a in pictures)
    assert all(a.get("scope") in ("row", "col") for a in page.of("th"))


def test_whiskers_stand_where_the_differences_are() -> None:
    trial, page = make_trial(), Page(trial_html.render(make_trial()))
    at = [float(str(circle["cx"])) for circle in page.of("circle", "estimate")]
    scale = whisker_scale(trial)
    expected = [scale.place(arm.difference.estimate) for arm in trial.ranking if arm.difference]
    shares = [(place - 6) / (280 - 12) for place in at]
    assert shares == pytest.approx(expected, abs=0.001)
    assert at == sorted(at, reverse=True)
    (ring,) = page.of("circle", "ring")
    assert float(str(ring["cx"])) == pytest.approx(6 + scale.place(0) * 268, abs=0.1)


def test_of_many_arms_the_baseline_and_the_best_have_a_colour() -> None:
    trial = crowd()
    styles = arm_styles(trial)
    coloured = [name for name, style in styles.items() if style != "arm-rest"]
    best = [arm.name for arm in trial.ranking if arm is not trial.baseline][: MOST_COLOURED - 1]
    assert set(coloured) == {"keep", *best}
    assert styles["keep"] == "arm-0"
    assert len(set(styles.values())) == MOST_COLOURED + 1


def test_a_course_is_the_median_and_the_range_over_the_seeds() -> None:
    curves = [[(0, 0.1), (10, 0.5)], [(0, 0.3), (10, None)], [(0, 0.2), (10, 0.9), (20, math.nan)]]
    runs = [
        replace(
            make_run(n, 0.9), curve=tuple(CurvePoint(step=s, train_loss=None, loss=None, metric=m) for s, m in curve)
        )
        for n, curve in enumerate(curves)
    ]
    trial = make_trial((make_arm("keep", runs, "baseline"),), winner=None)
    (course,) = courses(trial, lambda point: point.metric, arm_styles(trial))
    assert course.points == ((0, 0.2, 0.1, 0.3), (10, 0.7, 0.5, 0.9))
    assert courses(trial, lambda point: point.loss, arm_styles(trial)) == []
    assert line_chart("Nothing", []) is None


def test_a_run_that_diverged_ends_with_a_cross() -> None:
    page = Page(trial_html.render(make_trial()))
    assert len(page.of("path", "cross")) == 6  # one on each chart
    assert page.of("path", "cross")[0]["class"] == "cross arm-3"
    assert Page(trial_html.render(nothing_better())).of("path", "cross") == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.booleans())
def test_a_linear_axis_holds_its_values_between_round_ticks(values: list[float], exact: bool) -> None:
    axis = linear_axis(min(values), max(values), exact=exact)
    assert all(0 <= axis.place(value) <= 1 for value in values)
    assert axis.place(min(values)) <= axis.place(max(values))
    assert len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))
    if not exact:
        invisible = 1e-6 * (axis.high - axis.low)
        assert axis.low <= min(values) + invisible
        assert axis.high >= max(values) - invisible


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=9))
def test_a_logarithmic_axis_is_monotone_and_has_few_ticks(values: list[float]) -> None:
    axis = log_axis(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert axis.place(min(values)) >= 0
    assert 2 <= len(axis.ticks) <= 8
    assert all(axis.low * 0.999 <= tick <= axis.high * 1.001 for tick in axis.ticks)


def test_one_run_that_explodes_does_not_flatten_the_others() -> None:
    axis = log_axis([1.0, 1.1, 0.9, 1.2, 1e30])
    assert axis.high <= 1e5
    assert axis.place(1e30) == 1.0


def test_a_metric_that_is_the_loss_is_drawn_once() -> None:
    captions = re.findall("<figcaption>(.*?)</figcaption>", trial_html.render(by_loss()))
    assert captions == ["Validation loss", "Training loss", "Dead units", "Gradient norm, logarithmic"]
    assert len(re.findall("<figcaption>", trial_html.render(make_trial()))) == 6
    assert "<figcaption>" not in trial_html.render(unknown())
