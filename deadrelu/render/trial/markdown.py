"""A trial for a pull request or a job summary, in GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadrelu.render.conclusion import Mood
from deadrelu.render.markdown import MOST_CHARACTERS, code_span, escape_prose
from deadrelu.render.trial import words
from deadrelu.render.trial.figures import arm_figures, digits_of
from deadrelu.render.trial.legend import arm_cells, caption, compared_by, trained_on
from deadrelu.render.trial.promises import promised_of, promises
from deadrelu.report.trial import Trial
from deadrelu.text.wording import count

_MOOD: dict[Mood, str] = {"good": "✅", "doubtful": "⚠️", "bad": "❌"}
_MARKS = {"better": "✅", "worse": "❌", "no evidence": "", "baseline": ""}
_ROOM = MOST_CHARACTERS // 4
"""The most characters of the table, and of the cautions and notes together."""

_COLUMNS = {
    "metric": "",
    "change": "diff",
    "interval": "interval",
    "verdict": "verdict",
    "p": "p",
    "seeds": "seeds",
    "steps": "steps",
    "gap": "gap",
    "dead": "dead",
    "gradient": "max grad",
}


def render(trial: Trial) -> str:
    """Return Markdown with a final newline: the outcome, the arms best first, the promises, the next command."""
    first, *others = words.trial_sentences(trial)
    blocks = [
        [f"### {_MOOD[words.trial_mood(trial)]} deadrelu trial: {words.trial_headline(trial).lower()}"],
        [f"**{escape_prose(first)}**"],
        [escape_prose(" ".join(others))] if others else [],
        list(_head(trial)),
        list(_table(trial)),
        [escape_prose(f"{caption(trial, _COLUMNS)}.")],
        list(_promises(trial)),
        list(_cautions(trial)),
        list(_next(trial)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _head(trial: Trial) -> Iterator[str]:
    """Yield the model, the data, and what was trained."""
    model = trial.model
    named = code_span(model.path) if model.path else "a model in memory"
    yield f"- Model: {named} ({escape_prose(model.format)}, {count(model.parameters, 'parameter')})"
    yield f"- Data: {escape_prose(trained_on(trial))}"
    yield f"- Trial: {escape_prose(compared_by(trial))}"


def _table(trial: Trial) -> Iterator[str]:
    """Yield a row for each arm, best first; those beyond the room are only counted."""
    digits = digits_of(trial)
    titles = [escape_prose(title or trial.metric.name) for title in _COLUMNS.values()]
    rows = []
    for arm in trial.ranking:
        cells = arm_cells(arm_figures(arm), trial, digits)
        name = code_span(arm.name).replace("|", "\\|")
        named = f"**{name}**" if arm.name == trial.winner else name
        rows.append([_MARKS[arm.verdict], named, *(escape_prose(cells[key]) for key in _COLUMNS)])
    yield f"| | arm | {' | '.join(titles)} |"
    yield "|-|-" + "".join("|-" if key == "verdict" else "|-:" for key in _COLUMNS) + "|"
    lines = [f"| {' | '.join(row)} |" for row in rows]
    yield from _within(lines, "more arm")


def _promises(trial: Trial) -> Iterator[str]:
    """Yield what textbooks promise of leaky ReLU, and what was measured."""
    found = promises(trial)
    if found:
        yield f"**{escape_prose(promised_of(trial))}**"
        yield ""
    for promise in found:
        yield f"- {escape_prose(promise.claim)}. Measured: {escape_prose(promise.measured)}"


def _cautions(trial: Trial) -> Iterator[str]:
    """Yield what limits the conclusion, and the notes of the training."""
    notes = [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in trial.notes]
    lines = [f"- ⚠️ {escape_prose(said)}" for said in words.trial_cautions(trial)]
    yield from _within([*lines, *(f"- {escape_prose(note)}" for note in notes)], "more line")


def _next(trial: Trial) -> Iterator[str]:
    """Yield what to do next."""
    step = words.trial_step(trial)
    if step is not None:
        purpose = escape_prose(step.purpose)
        yield f"{purpose}: {code_span(step.command)}" if step.command else f"{purpose}."


def _within(lines: Sequence[str], noun: str) -> Iterator[str]:
    """Yield as many lines as there is room for, and count the others."""
    room = _ROOM
    for number, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            yield f"\n… and {count(len(lines) - number, noun)}, left out here."
            return
        yield line
