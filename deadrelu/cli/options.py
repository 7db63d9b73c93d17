"""The options that commands share: their flags and their help."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from deadrelu.cli.choices import Device, DeviceMap, Stats, choice
from deadrelu.cli.complete import outputs_as, rule_names
from deadrelu.cli.values import (
    BatchSize,
    read_batch_size,
    read_fraction,
    read_level,
    read_ratio,
    read_whole,
    split_globs,
)
from deadrelu.errors import UsageError
from deadrelu.render.formats import PLAIN, Format

MODEL = "Model"
DATA = "Data"
WHAT = "What to measure"
GATE = "Gate"
OUTPUT = "Output"
SWAP = "What to swap"
PANELS = (MODEL, DATA, WHAT, SWAP, GATE, OUTPUT)
"""The sections of a help, in their order."""


def _in(panel: str) -> Callable[..., Any]:
    """Options of one section of the help."""
    return partial(typer.Option, rich_help_panel=panel)


_model, _data, _what, _gate, _output = map(_in, (MODEL, DATA, WHAT, GATE, OUTPUT))


def split(globs: list[str]) -> list[str]:
    """The value of an option that takes globs."""
    return split_globs(globs)


def _measured(context: typer.Context, parameter: typer.CallbackParam, globs: list[str]) -> list[str]:
    """The sites to measure. The words of `patch` are left out: `all` is no restriction, `dead` is not known yet."""
    source = context.get_parameter_source(parameter.name or "")
    wanted = split_globs(globs)
    if "dead" in wanted and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--site dead is for `deadrelu patch`", hint="a scan finds the dead units: leave it out")
    return [glob for glob in wanted if glob not in ("dead", "all")]


def _show_traceback(wanted: bool) -> None:
    if wanted:
        os.environ["DEADRELU_DEBUG"] = "1"


Debug = Annotated[
    bool, typer.Option("--debug", callback=_show_traceback, is_eager=True, help="Show the traceback of an error.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read this configuration file. Default: the nearest deadrelu.toml or pyproject.toml.",
    ),
]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Read no configuration file.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A saved model, a Hugging Face folder, or a spec as for --arch. Default: the model in the configuration.",
    ),
]
Arch = Annotated[
    str | None,
    _model(
        metavar="SPEC",
        help="Code for the weights: pkg.mod:Name, path/model.py:Name, timm:NAME, torchvision:NAME or hf:FOLDER.",
    ),
]
ArchArgs = Annotated[
    list[str],
    _model("--arch-arg", metavar="KEY=JSON", help="Keyword argument for --arch, such as num_classes=10. Repeatable."),
]
WeightsKey = Annotated[
    str | None, _model(metavar="KEY", help="Which weights to take from a checkpoint that holds several.")
]
TrustFile = Annotated[bool, _model("--trust", help="Run the code that the model file carries.")]
TrustSha256 = Annotated[
    list[str], _model(metavar="HEX", help="Run its code only if the file has this SHA-256. Repeatable.")
]
Allow = Annotated[list[str], _model(metavar="PKG.CLASS", help="Let the file use this one class. Repeatable.")]
DeviceChoice = Annotated[Device, choice(Device, "--device", help="Where to run the model.", panel=MODEL)]
DeviceMapChoice = Annotated[
    DeviceMap | None,
    choice(
        DeviceMap, "--device-map", help="Spread a Hugging Face folder over all devices with accelerate.", panel=MODEL
    ),
]
Data = Annotated[
    str | None,
    _data(
        metavar="DATA",
        help="A .npy, .npz, .pt or .safetensors file, a folder of images, or pkg.mod:attr. Default: synthetic noise.",
    ),
]
DataKey = Annotated[
    str | None,
    _data(metavar="NAME", help="Arrays of the file to feed, such as x or x,mask. Default: by the names in forward."),
]
BatchSizeChoice = Annotated[
    BatchSize,
    _data(
        "--batch-size",
        metavar="N",
        parser=read_batch_size,
        help="Samples per batch; none runs all of the data in one call.",
    ),
]
BatchAxis = Annotated[
    int | None,
    _data(
        metavar="N",
        parser=read_whole(0),
        help="Input axis that counts samples. Default: 0, or 1 for a model that takes time first.",
    ),
]
Inputs = Annotated[
    list[str],
    _data("--input", metavar="NAME=JSON", help="Argument of every call of the model, such as sr=16000. Repeatable."),
]
Samples = Annotated[
    int | None,
    _data(metavar="N", parser=read_whole(1), help="Stop after this many samples. Default: all, or 512 of noise."),
]
Seed = Annotated[
    int | None,
    _data(
        metavar="N",
        parser=read_whole(),
        help="Seed for drawing --samples at random, and for noise. Default: the first samples, and 0.",
    ),
]
InputShape = Annotated[
    list[str],
    _data(
        metavar="SHAPE", help="Shape of synthetic input, without the batch axis: 3,32,32 or NAME=3,32,32. Repeatable."
    ),
]
Resize = Annotated[
    str | None, _data(metavar="SIZE", help="Images: resize the shorter side to SIZE, or both sides to 224x320.")
]
Mean = Annotated[str | None, _data(metavar="R,G,B", help="Images: subtract this after scaling. Default: 0.")]
Std = Annotated[str | None, _data(metavar="R,G,B", help="Images: then divide by this. Default: 1.")]
Scale = Annotated[
    Fraction, _data(metavar="RATIO", parser=read_ratio, help="Images: first multiply pixels 0..255 by this.")
]
Sites = Annotated[
    list[str],
    _what("--site", metavar="GLOB", callback=_measured, help="Measure only sites that match this glob. Repeatable."),
]
SkipSites = Annotated[
    list[str],
    _what("--skip-site", metavar="GLOB", callback=split, help="Exclude sites that match this glob. Repeatable."),
]
FeatureAxes = Annotated[
    list[str],
    _what(
        "--feature-axis",
        metavar="SITE=AXIS",
        help="Axis that holds the units of a site; none makes the site one unit. Repeatable.",
    ),
]
Statistics = Annotated[
    Stats,
    choice(
        Stats,
        "--stats",
        help="fired: which units fired at all; rates: how often; full: maxima and means too. Only full finds NaN in"
        " units that fired.",
        panel=WHAT,
    ),
]
UntilVerdict = Annotated[bool, _gate("--until-verdict", help="Stop as soon as dead units can no longer fail the gate.")]
UntilLikely = Annotated[
    bool,
    _gate("--until-likely", help="Stop also once they will fail it, at --confidence. Needs samples in random order."),
]
MaxDead = Annotated[
    float | None,
    _gate(
        metavar="SHARE",
        parser=read_fraction,
        help="Fail if a larger share of a site's units is dead: 5% or 0.05. Without it only wholly dead sites fail.",
    ),
]
MaxDeadTotal = Annotated[
    float | None,
    _gate(
        metavar="SHARE",
        parser=read_fraction,
        help="Fail if a larger share of all units together is dead.",
    ),
]
Limits = Annotated[
    list[str],
    _gate(
        metavar="SITE=SHARE", help="Another --max-dead for sites that match a glob; the last match counts. Repeatable."
    ),
]
BaselineFile = Annotated[
    Path | None, _gate("--baseline", metavar="FILE", help="Fail if a site has more dead units than this file records.")
]
UpdateBaseline = Annotated[
    bool,
    _gate("--update-baseline", help="Write what is dead now to the --baseline file; more than before needs --force."),
]
Tolerance = Annotated[
    str,
    _gate(
        metavar="N|SHARE", help="How many more dead units than in the baseline a site may have: 2, or 1% of its units."
    ),
]
RareBelow = Annotated[
    float,
    _gate(
        metavar="SHARE", parser=read_fraction, help="A unit that fires at less than this share of positions is rare."
    ),
]
Confidence = Annotated[float, _gate(metavar="LEVEL", parser=read_level, help="Confidence of the silence bound.")]
Select = Annotated[
    list[str],
    _gate(
        metavar="RULE",
        autocompletion=rule_names,
        help="Report only this rule (code or name). Repeatable. Default: all rules.",
    ),
]
Ignore = Annotated[
    list[str],
    _gate(
        metavar="RULE[@SITE]",
        autocompletion=rule_names,
        help="Exclude this rule, or this rule at sites that match a glob. Repeatable.",
    ),
]
Strict = Annotated[bool, _gate("--strict", help="Fail on sites that were skipped, or whose feature axis is a guess.")]
ExitZero = Annotated[bool, _gate("--exit-zero", help="Exit 0 even if the gate fails. Errors keep their exit codes.")]
PlainFormat = Annotated[Format, choice(PLAIN, "--format", help="Format of stdout.", panel=OUTPUT)]
ReportFormat = Annotated[
    Format,
    choice(Format, "--format", metavar="FORMAT", help=f"Format of stdout: {', '.join(Format)}.", panel=OUTPUT),
]
Outputs = Annotated[
    list[str],
    _output(
        "--output",
        "-o",
        metavar="[FORMAT=]PATH",
        autocompletion=outputs_as(Format),
        help="Also write the report to a file, in FORMAT or as its suffix says. Repeatable.",
    ),
]
Full = Annotated[bool, _output("--full", help="List healthy sites too.")]
Units = Annotated[
    list[str],
    _output(
        metavar="SITE", help="Draw every unit of the sites that match this glob, in place of the table. Repeatable."
    ),
]
Force = Annotated[bool, _output("--force", help="Overwrite existing files.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Print no notes and no progress bar.")]
