"""The options that commands share: their flags and their help."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from deadrelu.cli.completion import offer, offer_outputs, rule_names
from deadrelu.cli.general import GATE, OUTPUT, WHAT
from deadrelu.cli.values import (
    read_choice,
    read_fraction,
    read_level,
    read_number,
    read_threshold,
    split_globs,
)
from deadrelu.judge.definitions import Definition
from deadrelu.render.formats import PLAIN, Format
from deadrelu.report import Stats


def option_in(panel: str) -> Callable[..., Any]:
    """How an option of one section of the help is declared."""
    return partial(typer.Option, rich_help_panel=panel)


def choice(kind: Iterable[Any], *flags: str, help: str, panel: str, metavar: str = "") -> Any:
    """An option that takes one of a few words, or of the members of an enumeration; the shell completes them."""
    known = {str(getattr(member, "value", member)): member for member in kind}
    return typer.Option(
        *flags,
        metavar=metavar or "|".join(known),
        parser=read_choice(known),
        autocompletion=offer(known),
        help=help,
        rich_help_panel=panel,
    )


_what, _gate, _output = map(option_in, (WHAT, GATE, OUTPUT))


def split(globs: list[str]) -> list[str]:
    """The value of an option that takes globs."""
    return split_globs(globs)


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A saved model, a Hugging Face folder, or a spec as for --arch. Default: the model in the configuration.",
    ),
]
StatsOption = Annotated[
    Stats,
    choice(
        get_args(Stats),
        "--stats",
        help="fired: which units fired at all; rates: how often; full: maxima and means too. Only full finds NaN in"
        " units that fired.",
        panel=WHAT,
    ),
]
PlasticityOption = Annotated[
    bool,
    option_in(WHAT)(
        "--plasticity",
        help="Also measure ranks of each site's outputs, and the weights into and out of its units. This costs time.",
    ),
]
ProveOption = Annotated[
    bool,
    option_in(WHAT)("--prove", help="Also say of each silent unit whether an input in the data's range can wake it."),
]
InitialOption = Annotated[
    str | None,
    option_in(WHAT)(
        "--initial",
        metavar="MODEL",
        help="The model from before training, opened like MODEL: says which dead units were dead from the start.",
    ),
]
SaturatedBelowOption = Annotated[
    float,
    _what(
        metavar="NUMBER",
        parser=read_number,
        help="A unit whose derivative is at most this, but not exactly zero, at every position is saturated.",
    ),
]
UntilVerdictOption = Annotated[
    bool, _gate("--until-verdict", help="Stop as soon as dead units can no longer fail the gate.")
]
UntilLikelyOption = Annotated[
    bool,
    _gate("--until-likely", help="Stop also once they will fail it, at --confidence. Needs samples in random order."),
]
MaxDeadOption = Annotated[
    float | None,
    _gate(
        metavar="SHARE",
        parser=read_fraction,
        help="Fail if a larger share of a site's units is dead: 5% or 0.05. Without it only wholly dead sites fail.",
    ),
]
MaxDeadTotalOption = Annotated[
    float | None,
    _gate(
        metavar="SHARE",
        parser=read_fraction,
        help="Fail if a larger share of all units together is dead.",
    ),
]
MaxSaturatedOption = Annotated[
    float | None,
    _gate(metavar="SHARE", parser=read_fraction, help="Fail if a larger share of a site's units is saturated."),
]
LimitsOption = Annotated[
    list[str],
    _gate(
        metavar="SITE=SHARE", help="Another --max-dead for sites that match a glob; the last match counts. Repeatable."
    ),
]
BaselineOption = Annotated[
    Path | None, _gate("--baseline", metavar="FILE", help="Fail if a site has more dead units than this file records.")
]
UpdateBaselineOption = Annotated[
    bool,
    _gate("--update-baseline", help="Write what is dead now to the --baseline file; more than before needs --force."),
]
ToleranceOption = Annotated[
    str,
    _gate(
        metavar="N|SHARE", help="How many more dead units than in the baseline a site may have: 2, or 1% of its units."
    ),
]
DefinitionOption = Annotated[
    Definition | None,
    choice(
        get_args(Definition),
        "--definition",
        metavar="NAME",
        help="Count units as dead as a paper does: redo (Sokar 2023), nature (Dohare 2024), apoz (Hu 2016), or grama"
        " (Liu 2025; needs --loss).",
        panel=GATE,
    ),
]
TauOption = Annotated[
    float | None,
    _gate(
        metavar="NUMBER",
        parser=read_threshold,
        help="Threshold of the definition. Default: 0.025 for redo, 1% for nature, 90% for apoz, 0.01 for grama.",
    ),
]
RareBelowOption = Annotated[
    float,
    _gate(
        metavar="SHARE", parser=read_fraction, help="A unit that fires at less than this share of positions is rare."
    ),
]
ConfidenceOption = Annotated[float, _gate(metavar="LEVEL", parser=read_level, help="Confidence of the silence bound.")]
SelectOption = Annotated[
    list[str],
    _gate(
        metavar="RULE",
        autocompletion=rule_names,
        help="Report only this rule (code or name). Repeatable. Default: all rules.",
    ),
]
IgnoreOption = Annotated[
    list[str],
    _gate(
        metavar="RULE[@SITE]",
        autocompletion=rule_names,
        help="Exclude this rule, or this rule at sites that match a glob. Repeatable.",
    ),
]
StrictOption = Annotated[
    bool, _gate("--strict", help="Fail on sites that were skipped, or whose feature axis is a guess.")
]
ExitZeroOption = Annotated[
    bool, _gate("--exit-zero", help="Exit 0 even if the gate fails. Errors keep their exit codes.")
]
PlainFormatOption = Annotated[Format, choice(PLAIN, "--format", help="Format of stdout.", panel=OUTPUT)]
ReportFormatOption = Annotated[
    Format,
    choice(Format, "--format", metavar="FORMAT", help=f"Format of stdout: {', '.join(Format)}.", panel=OUTPUT),
]
OutputOption = Annotated[
    list[str],
    _output(
        "--output",
        "-o",
        metavar="[FORMAT=]PATH",
        autocompletion=offer_outputs(Format),
        help="Also write the report to a file, in FORMAT or as its suffix says. Repeatable.",
    ),
]
FullOption = Annotated[bool, _output("--full", help="List healthy sites too.")]
UnitsOption = Annotated[
    list[str],
    _output(
        metavar="SITE", help="Draw every unit of the sites that match this glob, in place of the table. Repeatable."
    ),
]
ForceOption = Annotated[bool, _output("--force", help="Overwrite existing files.")]
QuietOption = Annotated[bool, _output("--quiet", "-q", help="Print no notes and no progress bar.")]
