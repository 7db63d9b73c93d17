"""A trial as one self-contained HTML page: no requests, no script, light and dark, printable."""

from __future__ import annotations

from deadrelu.render.trial import words
from deadrelu.render.trial.figures import duration, seeds_of
from deadrelu.render.trial.legend import trained_on
from deadrelu.render.webpage import closing, overview
from deadrelu.render.webpage.curves import arm_styles, courses, curve_note, line_chart
from deadrelu.render.webpage.document import document
from deadrelu.render.webpage.markup import Html, el, facts
from deadrelu.render.webpage.ranking import all_runs, legend_of_arms, promised, ranking
from deadrelu.render.webpage.verdict import page_verdict
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count


def render(trial: Trial) -> str:
    """Return the page with a final newline."""
    styles = arm_styles(trial)
    reference = overview.settings({**trial.settings, "baseline": trial.baseline.name})
    body = (
        _verdict(trial),
        _measured(trial),
        ranking(trial, styles),
        _curves(trial, styles),
        promised(trial, styles),
        all_runs(trial, styles),
        el("section", el("h2", "Reference"), reference),
    )
    title = f"{words.trial_headline(trial)}: {trial.model.path or 'model in memory'} (deadrelu trial)"
    return document(title, body, closing.footer(trial), styles=("style.css", "trial.css"))


def _verdict(trial: Trial) -> Html:
    """The outcome and the conclusion."""
    mood = words.trial_mood(trial)
    first, *others = words.trial_sentences(trial)
    winner = words.winner_of(trial)
    label, name = ("Winner", winner.name) if winner else ("Baseline", trial.baseline.name)
    return page_verdict(
        "deadrelu trial",
        trial.model.path or "a model in memory",
        mood,
        words.trial_headline(trial),
        el("p", first, class_="reason"),
        el("p", " ".join(others), class_="conclusion") if others else None,
        pill=(label, name),
    )


def _measured(trial: Trial) -> Html:
    """The model, the data, what was trained, and the next command."""
    model, metric = trial.model, trial.metric
    step = words.trial_step(trial)
    then = None
    if step is not None:
        then = el("p", f"{step.purpose}.", class_="next")
        if step.command:
            then = el("p", f"{step.purpose}: ", el("code", step.command), class_="next")
    better = "higher" if metric.higher_is_better else "lower"
    took = f" in {duration(trial.seconds)}" if trial.seconds else ""
    return el(
        "section",
        el("h2", "What was measured", class_="hidden"),
        facts(
            ("Model", f"{model.format}, {count(model.parameters, 'parameter')}"),
            ("Trained", f"{count(len(trial.arms), 'arm')} × {count(seeds_of(trial), 'seed')}{took}"),
            ("Compared by", f"{metric.name}, {better} is better"),
            ("Judged by", metric.method),
            ("Data", trained_on(trial)),
        ),
        then,
        class_="measured",
    )


def _curves(trial: Trial, styles: dict[str, str]) -> Html | None:
    """The courses of all arms over the steps."""
    metric, share = trial.metric.name, trial.metric.is_share
    points = [point for arm in trial.arms for run in arm.runs for point in run.curve]
    is_loss = all(point.metric == point.loss for point in points)
    own = (
        line_chart(f"Validation {metric}", courses(trial, lambda p: p.metric, styles), percent=share),
        line_chart(f"Training {metric}", courses(trial, lambda p: p.train_metric, styles), percent=share),
    )
    charts = [
        *(() if is_loss else own),
        line_chart("Validation loss", courses(trial, lambda p: p.loss, styles)),
        line_chart("Training loss", courses(trial, lambda p: p.train_loss, styles)),
        line_chart("Dead units", courses(trial, lambda p: p.dead_fraction, styles), percent=True),
        line_chart("Gradient norm", courses(trial, lambda p: p.gradient_norm, styles), log=True),
    ]
    drawn = [chart for chart in charts if chart is not None]
    if not drawn:
        return None
    return el(
        "section",
        el("h2", "While they trained"),
        legend_of_arms(styles),
        el("div", *drawn, class_="charts"),
        el("p", curve_note(trial, styles), class_="quiet"),
    )
