"""The arms of a trial on its page: the ranking with its whiskers, the promises, and the table of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.trial import words
from deadrelu.render.trial.figures import Digits, arm_figures, digits_of, duration, gradient_norm
from deadrelu.render.trial.legend import arm_cells, caption
from deadrelu.render.trial.promises import promised_of, promises
from deadrelu.render.trial.whiskers import WhiskerScale, whisker_scale
from deadrelu.render.webpage.curves import swatch, whisker_axis_svg, whisker_svg
from deadrelu.render.webpage.markup import Html, el, facts, join
from deadrelu.report.trial import ArmResult, Trial, TrialRun
from deadrelu.text.wording import count, number, percent

_COLUMNS = ("metric", "change", "whisker", "verdict", "p", "seeds")
_COURSE = {
    "steps": "steps to target",
    "seconds": "time to target",
    "gap": "gap",
    "dead": "dead",
    "median": "gradient norm",
    "gradient": "max grad",
    "diverged": "diverged",
}
_WHOLE = 40
"""So long a change is not broken over two lines."""

_TITLES = {"change": "diff", "whisker": ""}
_UNCOMPARED = ("metric", "verdict", "seeds")
"""The columns of a trial without any difference."""

_MARKS = {"better": ("✓", "healthy"), "worse": ("✗", "error"), "no evidence": ("·", ""), "baseline": ("", "")}
_RUN = (
    "seed",
    "metric",
    "loss",
    "train metric",
    "train loss",
    "dead",
    "saturated",
    "gradient",
    "max grad",
    "steps",
    "time",
    "to target",
)


def ranking(trial: Trial, styles: Mapping[str, str]) -> Html:
    """Return the table of arms, best first, and below it what limits the conclusion."""
    is_compared = any(arm.difference is not None for arm in trial.arms)
    columns = _COLUMNS if is_compared else _UNCOMPARED
    scale, digits = whisker_scale(trial), digits_of(trial)
    titles = {**_TITLES, "metric": trial.metric.name}
    heads = [
        el(
            "th",
            titles.get(key, key),
            scope="col",
            class_=_kind(key) or None,
            aria_label="difference" if key == "whisker" else None,
        )
        for key in columns
    ]
    rows = [_row(arm, trial, columns, styles[arm.name], scale, digits) for arm in trial.ranking]
    axis = whisker_axis_svg(scale, digits.change)
    foot = [el("td", axis if key == "whisker" else None, class_=_kind(key) or None) for key in columns]
    table = el(
        "table",
        el("thead", el("tr", el("th", scope="col", aria_label="outcome"), el("th", "arm", scope="col"), *heads)),
        el("tbody", *rows),
        el("tfoot", el("tr", el("td"), el("td"), *foot)) if is_compared else None,
        class_="arms",
        aria_label="Arms, best first",
    )
    return el(
        "section",
        el("h2", "Arms, best first"),
        el("div", table, class_="scrolled"),
        el("p", f"{caption(trial, columns)}.", class_="caption"),
        _limits(trial),
    )


def _kind(key: str) -> str:
    """The class of a column."""
    return "whiskers" if key == "whisker" else "" if key == "verdict" else "num"


def _row(arm: ArmResult, trial: Trial, columns: Sequence[str], style: str, scale: WhiskerScale, digits: Digits) -> Html:
    """The row of one arm."""
    figures = arm_figures(arm)
    cells = arm_cells(figures, trial, digits)
    verdict, is_baseline = arm.verdict.replace(" ", "-"), arm is trial.baseline
    said = "baseline" if is_baseline else f"{cells['change']}, {cells['interval']}"
    contents: dict[str, str] = {**cells, "whisker": whisker_svg(arm, scale, said, is_baseline=is_baseline)}
    sign, kind = _MARKS[arm.verdict]
    recipe = el("div", arm_name(arm.recipe), class_="quiet recipe") if arm.recipe not in (arm.name, "") else None
    tones = {"change": verdict, "verdict": verdict, "seeds": "doubt" if figures.complete < len(arm.runs) else ""}
    return el(
        "tr",
        el("td", el("span", sign, class_=f"mark {kind}".strip(), aria_hidden="true")),
        el("th", swatch(style), arm_name(arm.name), recipe, scope="row"),
        *(el("td", contents[key], class_=f"{_kind(key)} {tones.get(key, '')}".strip() or None) for key in columns),
        class_="winner" if arm.name == trial.winner else None,
    )


def arm_name(name: str) -> Html:
    """Return the name of an arm as code, which a narrow column breaks only between two changes."""
    *parts, last = name.split("+")
    pieces = [*(f"{part}+" for part in parts), last]
    spans = [el("span", piece, class_="whole" if len(piece) <= _WHOLE else None) for piece in pieces]
    return el("code", Html("<wbr>".join(spans)), class_="arm")


def _limits(trial: Trial) -> Html | None:
    """Return the cautions and the notes."""
    cautions = [el("li", el("span", "!", class_="mark warning"), el("p", said)) for said in words.trial_cautions(trial)]
    notes = [
        el("li", el("span", "·", class_="mark"), el("p", f"{note[:1].upper()}{note[1:].rstrip('.')}.", class_="quiet"))
        for note in trial.notes
    ]
    return el("ul", *cautions, *notes, class_="findings limits") if cautions or notes else None


def promised(trial: Trial, styles: Mapping[str, str]) -> Html | None:
    """Return what textbooks promise of leaky ReLU, and what was measured."""
    found = promises(trial)
    if not found:
        return None
    cards = [el("div", el("h3", promise.claim), el("p", f"Measured: {promise.measured}")) for promise in found]
    return el(
        "section",
        el("h2", promised_of(trial)),
        el("div", *cards, class_="promises"),
        _course_table(trial, styles),
    )


def _course_table(trial: Trial, styles: Mapping[str, str]) -> Html:
    """How every arm trained: speed, gap, dead units, gradients."""
    digits, rows = digits_of(trial), []
    for arm in trial.ranking:
        figures = arm_figures(arm)
        cells = arm_cells(figures, trial, digits)
        cells["seconds"] = BLOCKS.dash if figures.seconds is None else duration(figures.seconds)
        cells["median"] = BLOCKS.dash if figures.gradient is None else gradient_norm(figures.gradient)
        cells["diverged"] = f"{arm.diverged:,}/{len(arm.runs):,}"
        row = [
            el("td", cells[key], class_="num doubt" if key == "diverged" and arm.diverged else "num") for key in _COURSE
        ]
        rows.append(el("tr", el("th", swatch(styles[arm.name]), arm_name(arm.name), scope="row"), *row))
    heads = [el("th", title, scope="col", class_="num") for title in _COURSE.values()]
    table = el(
        "table",
        el("thead", el("tr", el("th", "arm", scope="col"), *heads)),
        el("tbody", *rows),
        class_="arms course",
        aria_label="How each arm trained",
    )
    said = f"{caption(trial, _COURSE)}; gradient norm: median. Only the difference in {trial.metric.name} was tested."
    return join(el("div", table, class_="scrolled"), el("p", said, class_="caption"))


def all_runs(trial: Trial, styles: Mapping[str, str]) -> Html:
    """Return every run with its figures, folded by arm."""
    digits = digits_of(trial)
    return el("section", el("h2", "Runs"), *(_runs(arm, trial, styles, digits) for arm in trial.arms))


def _runs(arm: ArmResult, trial: Trial, styles: Mapping[str, str], digits: Digits) -> Html:
    """The runs of one arm."""
    titles = [
        trial.metric.name if t == "metric" else f"train {trial.metric.name}" if t == "train metric" else t for t in _RUN
    ]
    heads = [el("th", title, scope="col", class_="num") for title in titles]
    body = [_run(run, digits) for run in arm.runs]
    table = el(
        "table",
        el("thead", el("tr", *heads, el("th", "ended", scope="col"))),
        el("tbody", *body),
    )
    said = "gradient: the median norm over all steps; to target: steps until the best of the baseline was reached."
    about = facts(("Recipe", arm.recipe), ("Command", arm.command))
    return el(
        "details",
        el(
            "summary",
            swatch(styles[arm.name]),
            arm_name(arm.name),
            el("span", count(len(arm.runs), "run"), class_="quiet"),
        ),
        el(
            "div",
            about,
            el("div", table, class_="scrolled") if arm.runs else None,
            el("p", said, class_="caption") if arm.runs else None,
            class_="inside",
        ),
        class_="plain",
    )


def _run(run: TrialRun, digits: Digits) -> Html:
    """The figures of one run."""
    dash = BLOCKS.dash
    ended = "failed: " + " ".join(run.failed.split()) if run.failed is not None else "finished"
    if run.diverged is not None:
        ended = f"diverged at step {run.diverged:,}"
    cells = (
        str(run.seed),
        *(dash if value is None else digits.value(value) for value in (run.metric,)),
        dash if run.loss is None else number(run.loss),
        dash if run.train_metric is None else digits.value(run.train_metric),
        dash if run.train_loss is None else number(run.train_loss),
        *(dash if share is None else percent(share) for share in (run.dead_fraction, run.saturated_fraction)),
        *(dash if n is None else gradient_norm(n) for n in (run.gradient_norm_median, run.gradient_norm_max)),
        f"{run.steps:,}",
        duration(run.seconds),
        dash if run.steps_to_target is None else f"{run.steps_to_target:,}",
    )
    is_bad = run.failed is not None or run.diverged is not None
    return el(
        "tr", *(el("td", cell, class_="num") for cell in cells), el("td", ended, class_="doubt" if is_bad else "quiet")
    )


def legend_of_arms(styles: Mapping[str, str]) -> Html:
    """Return the name of each coloured arm with its line."""
    items = [el("li", swatch(style), arm_name(name)) for name, style in styles.items() if style != "arm-rest"]
    rest = [el("li", swatch("arm-rest"), "the other arms")] if "arm-rest" in styles.values() else []
    return join(el("ul", *items, *rest, class_="legend"))
