"""The arms of a trial on its page: the ranking with its whiskers, the promises, and the table of all runs."""

from __future__ import annotations

from collections.abc import Mapping

from deadrelu.render import trial_words as words
from deadrelu.render.glyphs import BLOCKS
from deadrelu.render.promises import promised_of, promises
from deadrelu.render.trial_figures import Digits, arm_figures, digits_of, duration, gradient_norm
from deadrelu.render.trial_legend import arm_cells, caption
from deadrelu.render.webpage.curves import swatch, whisker_axis_svg, whisker_svg
from deadrelu.render.webpage.markup import Html, code, el, facts, join
from deadrelu.render.whiskers import WhiskerScale, whisker_scale
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
_TITLES = {"change": "diff", "whisker": ""}
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
    scale, digits = whisker_scale(trial), digits_of(trial)
    titles = ("", "arm", *(trial.metric.name if key == "metric" else _TITLES.get(key, key) for key in _COLUMNS))
    kinds = ("", "", *map(_kind, _COLUMNS))
    heads = [
        el("th", title, scope="col", class_=kind or None, aria_label="difference" if kind == "whiskers" else None)
        for title, kind in zip(titles, kinds, strict=True)
    ]
    rows = [_row(arm, trial, styles, scale, digits) for arm in trial.ranking]
    axis = whisker_axis_svg(scale, digits.change)
    empty = [el("td") for _ in _COLUMNS[3:]]
    foot = el("tr", el("td"), el("td"), el("td"), el("td"), el("td", axis, class_="whiskers"), *empty)
    table = el(
        "table",
        el("caption", f"{caption(trial, _COLUMNS)}."),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        el("tfoot", foot) if any(arm.difference is not None for arm in trial.arms) else None,
        class_="arms",
    )
    return el("section", el("h2", "Arms, best first"), el("div", table, class_="scrolled"), _limits(trial))


def _kind(key: str) -> str:
    """The class of a column."""
    return "whiskers" if key == "whisker" else "" if key == "verdict" else "num"


def _row(arm: ArmResult, trial: Trial, styles: Mapping[str, str], scale: WhiskerScale, digits: Digits) -> Html:
    """The row of one arm."""
    figures = arm_figures(arm)
    cells = arm_cells(figures, trial, digits)
    said = f"{cells['change'] or 'baseline'}, {cells['interval']}" if cells["interval"] else "baseline"
    drawn = whisker_svg(arm, scale, said, is_baseline=arm is trial.baseline)
    sign, kind = _MARKS[arm.verdict]
    recipe = el("div", code(arm.recipe), class_="quiet recipe") if arm.recipe not in (arm.name, "") else None
    columns = []
    for key in _COLUMNS:
        style = _kind(key)
        if key == "seeds" and figures.complete < len(arm.runs):
            style += " doubt"
        if key in ("change", "verdict"):
            style += f" {arm.verdict.replace(' ', '-')}"
        content = drawn if key == "whisker" else cells[key]
        columns.append(
            el("td", content, class_=style.strip() or None, title=cells["interval"] if key == "change" else None)
        )
    return el(
        "tr",
        el("td", el("span", sign, class_=f"mark {kind}".strip(), aria_hidden="true")),
        el("th", swatch(styles[arm.name]), arm_name(arm.name), recipe, scope="row"),
        *columns,
        class_="winner" if arm.name == trial.winner else None,
    )


def arm_name(name: str) -> Html:
    """Return the name of an arm as code, which a narrow column breaks only between two changes."""
    parts = name.split("+")
    ends = [f"{part}+" for part in parts[:-1]]
    return el("code", *(join(part, Html("<wbr>")) for part in ends), parts[-1], class_="arm")


def _limits(trial: Trial) -> Html | None:
    """Return the cautions and the notes."""
    cautions = [el("li", el("span", "!", class_="mark warning"), el("p", said)) for said in words.trial_cautions(trial)]
    notes = [
        el("li", el("span", "·", class_="mark"), el("p", f"{note[:1].upper()}{note[1:].rstrip('.')}.", class_="quiet"))
        for note in trial.notes
    ]
    return el("ul", *cautions, *notes, class_="findings limits") if cautions or notes else None


def promised(trial: Trial, styles: Mapping[str, str]) -> Html | None:
    """Return what is said of leaky ReLU, and what was measured."""
    found = promises(trial)
    if not found:
        return None
    cards = [el("div", el("h3", promise.claim), el("p", f"Measured: {promise.measured}")) for promise in found]
    return el(
        "section",
        el("h2", promised_of(trial)),
        el("div", *cards, class_="promises"),
        el("div", _course_table(trial, styles), class_="scrolled"),
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
    return el(
        "table",
        el(
            "caption",
            f"{caption(trial, _COURSE)}; gradient norm: median. Only the difference in {trial.metric.name} was tested.",
        ),
        el("thead", el("tr", el("th", "arm", scope="col"), *heads)),
        el("tbody", *rows),
        class_="arms course",
    )


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
        el(
            "caption",
            "Gradient: the median norm over all steps. To target: steps until the best of the baseline was reached.",
        ),
        el("thead", el("tr", *heads, el("th", "ended", scope="col"))),
        el("tbody", *body),
    )
    about = facts(("Recipe", arm.recipe), ("Command", arm.command))
    return el(
        "details",
        el(
            "summary", swatch(styles[arm.name]), code(arm.name), el("span", count(len(arm.runs), "run"), class_="quiet")
        ),
        el("div", about, el("div", table, class_="scrolled") if arm.runs else None, class_="inside"),
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
