"""The words that name an arm: `keep`, `leaky_relu:0.01+reinit`, `lr:0.1x`. Read without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deadrelu.activations import KEEP, REPLACEMENTS
from deadrelu.errors import UsageError
from deadrelu.text.spelling import did_you_mean

AUTO = "auto"

ACTIVATIONS_OF_ARMS = (*REPLACEMENTS, "sigmoid", "tanh")
"""What an arm may put in the place of the rectifiers; unlike `patch` also what has another shape."""

SLOPED = {"leaky_relu": 0.01, "prelu": 0.25}
"""The activations with a slope, each with the one that it has if none is given."""

Value = float | str | None


@dataclass(frozen=True)
class ArmChange:
    """One word of an arm: what kind of change, and how much. `word` is as it was written."""

    kind: str
    value: Value
    word: str


@dataclass(frozen=True)
class Arm:
    """One way of training: its name in the trial, and what it changes. No changes: the model as it is."""

    name: str
    changes: tuple[ArmChange, ...] = ()

    @property
    def recipe(self) -> str:
        """The arm in the words of the grammar."""
        return "+".join(change.word for change in self.changes) or KEEP

    @property
    def written(self) -> str:
        """The arm as `--arms` takes it."""
        return self.recipe if self.name == self.recipe else f"{self.name}={self.recipe}"

    def value(self, kind: str) -> Value:
        """How much of this kind of change; None without."""
        return next((change.value for change in self.changes if change.kind == kind), None)

    def has(self, kind: str) -> bool:
        """Whether it has a change of this kind."""
        return any(change.kind == kind for change in self.changes)


def _number(low: float, high: float, *, words: Sequence[str] = ()) -> Callable[[str], Value]:
    """A reader of numbers above `low` and below `high`, or of one of these words."""

    def read(text: str) -> Value:
        if text in words:
            return text
        value = float(text)
        if not low < value < high:
            raise ValueError(f"not above {low:g} and below {high:g}")
        return value

    return read


def _rate(text: str) -> Value:
    """A learning rate, or a factor of the usual one as `0.1x`."""
    value = float(text.removesuffix("x"))
    if not 0 < value < 1e6:
        raise ValueError("not a positive number")
    return text if text.endswith("x") else value


def _scheme(text: str) -> Value:
    """The name of an initialisation."""
    if text not in ("he", "xavier"):
        raise ValueError("he and xavier are known")
    return text


_NUMBERS: Mapping[str, tuple[str, Callable[[str], Value]]] = {
    "init": ("init:he", _scheme),
    "bias": ("bias:0.1", _number(-1e6, 1e6)),
    "dropout": ("dropout:0.2", _number(0, 1)),
    "weight_decay": ("weight_decay:1e-4", _number(0, 1e6)),
    "lr": ("lr:0.1x", _rate),
    "clip": ("clip:auto", _number(0, 1e12, words=(AUTO,))),
}
"""The words that need a value: an example, and what reads it."""

_PLAIN = ("reinit", "norm")
WORDS = (KEEP, *ACTIVATIONS_OF_ARMS, *_PLAIN, *_NUMBERS)


def parse_arms(texts: Iterable[str]) -> tuple[Arm, ...]:
    """Read arms; each text may hold several, with commas between them. `NAME=ARM` gives one a name of its own.

    `keep` comes first, whether it was asked for or not. Raises `UsageError` for what cannot be read, and for two arms
    of one name.
    """
    arms = [_arm(text.strip()) for each in texts for text in each.split(",") if text.strip()]
    baseline = next((arm for arm in arms if not arm.changes), Arm(KEEP))
    arms = [baseline, *(arm for arm in arms if arm is not baseline)]
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two arms are called {name}", hint=f"give one of them a name: again={name}")
    return tuple(arms)


def _arm(text: str) -> Arm:
    name, found, words = text.partition("=")
    if not found:
        name, words = text, text
    changes = [change for word in words.split("+") if (change := _change(word.strip(), text)) is not None]
    for kind in {change.kind for change in changes}:
        if len(same := [change.word for change in changes if change.kind == kind]) > 1:
            raise UsageError(f"the arm {text} has both {same[0]} and {same[1]}", hint="leave one of them out")
    return Arm(name.strip(), tuple(changes))


def _change(word: str, arm: str) -> ArmChange | None:
    """One word of an arm; None for `keep`."""
    kind, colon, value = word.partition(":")
    if kind not in WORDS:
        raise UsageError(
            f"the arm {arm} has the word {word!r}, which is not known",
            hint=f"{did_you_mean(kind, WORDS) or ''} the words are {', '.join(WORDS)}".strip(),
        )
    try:
        if kind in _NUMBERS:
            return ArmChange(kind, _NUMBERS[kind][1](value), word)
        if colon and kind not in SLOPED:
            raise UsageError(f"the arm {arm}: {kind} takes no number", hint=f"write {kind}")
        if kind in ACTIVATIONS_OF_ARMS:
            slope = _number(0, 1)(value) if colon else SLOPED.get(kind)
            return ArmChange("activation", slope, word)
    except ValueError as error:
        example = _NUMBERS[kind][0] if kind in _NUMBERS else f"{kind}:0.01"
        raise UsageError(f"the arm {arm}: {word} cannot be read: {error}", hint=f"for example {example}") from None
    return None if kind == KEEP else ArmChange(kind, None, word)


def new_activation(arm: Arm) -> str | None:
    """The activation that an arm puts in the place of the rectifiers; None if it keeps them."""
    word = next((change.word for change in arm.changes if change.kind == "activation"), None)
    return None if word is None else word.partition(":")[0]
