"""The table of rules: what each code means, why it matters, and what to do.

A new rule takes an entry here, a `@finder` in `findings.py`, and a section in `docs/rules.md`. Everything else (the
gate, `deadrelu rules`, `--select` and `--ignore`, SARIF, the web page) reads this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from deadrelu.errors import UsageError
from deadrelu.report import Severity
from deadrelu.text.spelling import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. `severity` is the default, which limits and `--strict` change; `fix` is what its findings suggest."""

    code: str
    name: str
    summary: str
    why: str
    fix: str
    severity: Severity


_TABLE = (
    Rule(
        code="DR001",
        name="dead-units",
        summary="Some units of a site are dead.",
        why="A dead unit passes no gradient, so training cannot wake it, and its weights are wasted.",
        fix="Lower the learning rate, or swap this activation for a LeakyReLU, and train again.",
        severity="warning",
    ),
    Rule(
        code="DR002",
        name="dead-site",
        summary="A whole site is dead: nothing after it sees the input.",
        why="What depends on this site alone is the same for every input, even where biases make it look alive.",
        fix="Check the weights and biases before this site first, then train again with a lower learning rate.",
        severity="error",
    ),
    Rule(
        code="DR003",
        name="non-finite",
        summary="Weights or pre-activations are NaN or infinite.",
        why="A NaN is neither silent nor firing, and it spreads: no figure after it can be relied on.",
        fix="Check the data for NaN, and go back to a checkpoint from before training diverged.",
        severity="error",
    ),
    Rule(
        code="DR004",
        name="rare-units",
        summary="Some units fire, but rarely.",
        why="A rare unit may detect a rare feature, or be about to die; it is alive, but learns slowly.",
        fix="Compare with an earlier checkpoint: if the share of rare units grows, they are dying.",
        severity="note",
    ),
    Rule(
        code="DR005",
        name="always-on",
        summary="Every unit of a site is always on: the activation does nothing here.",
        why="If every unit fires at every position, the site is linear on this data and adds no power to the model.",
        fix="Check that the data is the model's own and scaled as in training; if so, remove this activation.",
        severity="note",
    ),
    Rule(
        code="DR006",
        name="too-few-samples",
        summary="There are too few samples to tell dead from rare.",
        why="A unit that fires on one sample in a hundred is silent on ten samples nine times out of ten.",
        fix="Scan more samples.",
        severity="warning",
    ),
    Rule(
        code="DR007",
        name="saturated-units",
        summary="Some units of a site are saturated: the activation is almost flat wherever they get to.",
        why="Almost no gradient passes where an activation is flat, so training moves a saturated unit very slowly.",
        fix="Check that the inputs are scaled as in training; then lower the learning rate, or normalise before this"
        " activation.",
        severity="warning",
    ),
    Rule(
        code="DR008",
        name="skipped-site",
        summary="A site was skipped: it is neither alive nor dead.",
        why="What was not measured cannot pass.",
        fix="Fix the reason given, or scan with inputs that reach this site.",
        severity="warning",
    ),
    Rule(
        code="DR009",
        name="synthetic-data",
        summary="The data was synthetic: deadness on noise is a hint, not evidence.",
        why="A unit that is silent on noise may fire on real inputs, and vice versa.",
        fix="Scan real samples with `--data`.",
        severity="note",
    ),
    Rule(
        code="DR010",
        name="stopped-early",
        summary="The scan stopped when the verdict was clear: the rest of the data was not run.",
        why="A unit reported as dead may fire on the data that was not run, and that data may hold a NaN.",
        fix="Scan without `--until-verdict` for figures over all of the data.",
        severity="note",
    ),
    Rule(
        code="DR011",
        name="guessed-axis",
        summary="The feature axis of a site is a guess.",
        why="If another axis holds the units, positions were counted as units, and other units are dead.",
        fix="Set the axis with `--feature-axis SITE=AXIS`, or `SITE=none` if the site is a single unit.",
        severity="warning",
    ),
    Rule(
        code="DR012",
        name="vanishing-gradient",
        summary="Hardly any of the gradient reaches the first site.",
        why="One learning rate serves all layers: where the gradient is 10,000 times smaller, nothing is learnt.",
        fix="Add batch norm or shortcuts, take a ReLU-like activation, or start from weights that keep the gradient"
        " (`torch.nn.init.kaiming_normal_`).",
        severity="warning",
    ),
    Rule(
        code="DR013",
        name="exploding-gradient",
        summary="The gradient grows on its way to the first site, or is not finite.",
        why="A step that suits the last layers throws the first ones far away, and a NaN ends the training.",
        fix="Clip the norm of the gradient, or start from smaller weights (`torch.nn.init.kaiming_normal_`).",
        severity="warning",
    ),
    Rule(
        code="DR014",
        name="input-scale",
        summary="The inputs do not look like those of the training.",
        why="All other figures hang on it: on inputs of another scale, other units are dead than in use.",
        fix="Prepare the data as in training: divide pixels by 255 or do not, take out the mean and the deviation.",
        severity="warning",
    ),
)

RULES = {rule.code: rule for rule in _TABLE}
"""The rules by code, in order."""


def find_rule(text: str) -> Rule:
    """Return the rule with this code or name. Raises `UsageError`, with suggestions, if there is none."""
    for rule in _TABLE:
        if text.upper() == rule.code or text.lower().replace("_", "-") == rule.name:
            return rule
    near = did_you_mean(text, [*RULES, *(rule.name for rule in _TABLE)])
    listed = ", ".join(f"{rule.code} {rule.name}" for rule in _TABLE)
    raise UsageError(f"there is no rule {text!r}", hint=near or f"the rules are {listed}")
