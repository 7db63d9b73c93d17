"""A trial for a person at a terminal: the arms, best first, with their intervals; the conclusion; the next command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from deadrelu.render.terminal import styles
from deadrelu.render.terminal.columns import Column, column_of, fit
from deadrelu.render.terminal.page import outcome, page, paragraph
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.trial import words
from deadrelu.render.trial.figures import ArmFigures, Digits, arm_figures, digits_of
from deadrelu.render.trial.legend import arm_cells, caption, compared_by, trained_on
from deadrelu.render.trial.promises import promised_of, promises
from deadrelu.render.trial.whiskers import WhiskerScale, whisker, whisker_axis, whisker_scale
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count

_QUIET = ("p", "seeds", "steps", "gap", "dead", "gradient", "interval")

_COMPARED = ("change", "whisker", "p", "interval")
"""The columns that a trial without any difference has no use for."""


def render(trial: Trial, screen: Screen = Screen()) -> str:
    """Return the trial as text. The next command is never wrapped: it is there to be copied."""
    sections = (
        _head(trial, screen),
        _table(trial, screen),
        _conclusion(trial, screen),
        _promises(trial, screen),
        _cautions(trial, screen),
        _next(trial, screen),
    )
    return page(sections, screen)


def _head(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield the model, the data, and what was trained."""
    model, dot = trial.model, screen.glyphs.dot
    parts = [model.path or "a model in memory", model.format, count(model.parameters, "parameter")]
    yield from paragraph(Text(screen.text(dot.join(parts)), "bold"), screen, first=Text("model  ", "dim"))
    yield from paragraph(Text(screen.text(trained_on(trial))), screen, first=Text("data   ", "dim"))
    yield from paragraph(Text(screen.text(compared_by(trial))), screen, first=Text("trial  ", "dim"))


def _table(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield a line for each arm, and the scale of the whiskers."""
    digits, scale = digits_of(trial), whisker_scale(trial)
    figures = [arm_figures(arm) for arm in trial.ranking]
    rows = [_cells(arm, trial, digits, screen) for arm in figures]
    drawn = any(arm.difference is not None for arm in trial.arms)
    columns = [c for c in _columns(rows, trial, screen) if drawn or c.key not in _COMPARED]
    grid = fit(columns, screen.width)
    width = grid.widths.get("whisker", 0)
    cells = [_styled(arm, row, trial) for arm, row in zip(figures, rows, strict=True)]
    for arm, row in zip(figures, cells, strict=True):
        row["whisker"] = _whisker(arm, trial, scale, width, screen)
    ends = (digits.change(scale.low), digits.change(scale.high))
    axis = whisker_axis(scale, width, (screen.text(ends[0]), screen.text(ends[1]))) if width else ""
    total = {"whisker": Text(axis, "dim")} if axis.strip() else None
    yield from grid.draw(cells, total, screen, shortened=("arm",))
    yield from paragraph(Text(screen.text(caption(trial, grid.widths)), "dim"), screen, first=" ")


def _columns(rows: Sequence[Mapping[str, str]], trial: Trial, screen: Screen) -> list[Column]:
    """All columns in the order in which they are shown."""
    metric = screen.text(trial.metric.name)
    return [
        Column(key="mark", title="", rank=0, least=1, most=1, gap=1),
        column_of("arm", rows, rank=0, least=17, gap=1),
        column_of("metric", rows, rank=0, title=metric if len(metric) <= 14 else "metric", right=True),
        column_of("change", rows, rank=1, title="diff", right=True),
        Column(key="whisker", title="", rank=2, least=18, most=41),
        column_of("verdict", rows, rank=1),
        column_of("seeds", rows, rank=3, right=True),
        column_of("p", rows, rank=4, right=True),
        column_of("dead", rows, rank=5, right=True),
        column_of("steps", rows, rank=6, right=True),
        column_of("gap", rows, rank=7, right=True),
        column_of("gradient", rows, rank=8, title="max grad", right=True),
        column_of("interval", rows, rank=9, right=True, extra=True),
    ]


def _cells(arm: ArmFigures, trial: Trial, digits: Digits, screen: Screen) -> dict[str, str]:
    """The text of each column for an arm, without its whisker."""
    marks = {"better": screen.glyphs.healthy, "worse": screen.glyphs.error, "no evidence": screen.glyphs.note}
    cells = {key: screen.text(text) for key, text in arm_cells(arm, trial, digits).items()}
    return {"mark": marks.get(arm.arm.verdict, " "), "arm": screen.text(arm.arm.name), **cells}


def _styled(arm: ArmFigures, row: Mapping[str, str], trial: Trial) -> dict[str, Text]:
    """The cells in their colours: the verdict stands out, and so does an arm with runs that did not finish."""
    style = styles.ARM[arm.arm.verdict]
    cells = {key: Text(text, "dim" if key in _QUIET else "") for key, text in row.items()}
    for key in ("mark", "verdict", "change"):
        cells[key].stylize(style)
    if arm.arm.name == trial.winner:
        cells["arm"] = Text(row["arm"], "bold green")
    if arm.complete < len(arm.arm.runs):
        cells["seeds"] = Text(row["seeds"], "bold yellow")
    return cells


def _whisker(arm: ArmFigures, trial: Trial, scale: WhiskerScale, width: int, screen: Screen) -> Text:
    """The interval of an arm on the common scale; the baseline is a ring on the zero line."""
    if not width:
        return Text()
    drawn, zero = whisker(arm.arm.difference, scale, width, screen.glyphs)
    if arm.arm is trial.baseline:
        drawn = drawn[:zero] + screen.glyphs.whisker[-1] + drawn[zero + 1 :]
        return Text(drawn)
    text = Text(drawn, styles.ARM[arm.arm.verdict] or "cyan")
    if drawn[zero] == screen.glyphs.whisker[6]:
        text.stylize("not bold dim default", zero, zero + 1)
    return text


def _conclusion(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield the outcome, and what it rests on."""
    yield from outcome(words.trial_headline(trial), words.trial_mood(trial), words.trial_sentences(trial), screen)


def _promises(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield what textbooks promise of leaky ReLU, and what was measured."""
    found = promises(trial)
    if found:
        yield from paragraph(Text(screen.sentence(promised_of(trial)), "bold"), screen)
    for promise in found:
        text = Text.assemble((screen.sentence(promise.claim), "bold"), ("  measured: ", "dim"))
        text.append(screen.sentence(promise.measured))
        yield from paragraph(text, screen, first=Text(f" {screen.glyphs.note} ", "dim"))


def _cautions(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield what limits the conclusion, and the notes of the training."""
    for said in words.trial_cautions(trial):
        first = Text(f" {screen.glyphs.warning} ", "bold yellow")
        yield from paragraph(Text(screen.sentence(said), "yellow"), screen, first=first)
    for note in trial.notes:
        text = Text(screen.sentence(f"{note[:1].upper()}{note[1:].rstrip('.')}."), "dim")
        yield from paragraph(text, screen, first=Text(f" {screen.glyphs.note} ", "dim"))


def _next(trial: Trial, screen: Screen) -> Iterator[Text]:
    """Yield what to do next."""
    step = words.trial_step(trial)
    if step is None:
        return
    purpose = screen.sentence(f"{step.purpose}{':' if step.command else '.'}")
    yield from paragraph(Text(purpose, "dim" if step.command else ""), screen)
    if step.command:
        yield Text(f"  {screen.text(step.command)}", "bold")
