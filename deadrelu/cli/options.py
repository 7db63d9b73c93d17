"""The options that commands share: their flags and their help."""

from __future__ import annotations

from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from deadrelu.cli.values import BatchSize, read_batch_size, read_fraction, read_level, read_ratio
from deadrelu.render.formats import Format

_MODEL = "Model"
_DATA = "Data"
_WHAT = "What to measure"
_GATE = "Gate"
_OUTPUT = "Output"


class Device(str, Enum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class DeviceMap(str, Enum):
    """How a model is spread over several devices."""

    AUTO = "auto"


class Stats(str, Enum):
    """How much is measured."""

    FIRED = "fired"
    RATES = "rates"
    FULL = "full"


class Plain(str, Enum):
    """What a command shows that makes no report: a table for a person, or JSON for a script."""

    TABLE = "table"
    JSON = "json"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A saved model, a Hugging Face folder, or a spec as --arch takes it. None: from the configuration.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="The code of the weights: pkg.mod:Name, path/model.py:Name, timm:NAME, torchvision:NAME, hf:FOLDER.",
        rich_help_panel=_MODEL,
    ),
]
ArchArgs = Annotated[
    list[str],
    typer.Option(
        "--arch-arg", metavar="KEY=JSON", help="A keyword argument for it. Repeatable.", rich_help_panel=_MODEL
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Which weights of a checkpoint that holds several.", rich_help_panel=_MODEL),
]
TrustFile = Annotated[
    bool, typer.Option("--trust", help="Run the code that the model file carries.", rich_help_panel=_MODEL)
]
TrustSha256 = Annotated[
    list[str],
    typer.Option(metavar="HEX", help="Run it only if the file has this SHA-256. Repeatable.", rich_help_panel=_MODEL),
]
Allow = Annotated[
    list[str],
    typer.Option(metavar="PKG.CLASS", help="Let the file use this one class. Repeatable.", rich_help_panel=_MODEL),
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="Where the model runs.", rich_help_panel=_MODEL)]
DeviceMapChoice = Annotated[
    DeviceMap | None,
    typer.Option(
        "--device-map",
        help="Spread a Hugging Face folder over all devices, by accelerate.",
        rich_help_panel=_MODEL,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="A .npy, .npz, .pt or .safetensors file, a folder of images, or pkg.mod:attr. None: noise.",
        rich_help_panel=_DATA,
    ),
]
DataKey = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which arrays of the file go in: x, or x,mask.", rich_help_panel=_DATA),
]
BatchSizeChoice = Annotated[
    BatchSize,
    typer.Option(
        "--batch-size",
        metavar="N",
        parser=read_batch_size,
        help="Samples a batch; none: all of the data in one call.",
        rich_help_panel=_DATA,
    ),
]
BatchAxis = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="The input's axis that counts samples. Default: 0, or 1 if the model takes time first.",
        rich_help_panel=_DATA,
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="NAME=JSON",
        help="An argument of every call of the model: sr=16000. Repeatable.",
        rich_help_panel=_DATA,
    ),
]
Samples = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Stop after this many samples.", rich_help_panel=_DATA)
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="For synthetic data, and for a random subset.", rich_help_panel=_DATA)
]
InputShape = Annotated[
    list[str],
    typer.Option(
        metavar="SHAPE",
        help="Synthetic input, without the batch: 3,32,32 or NAME=3,32,32. Repeatable.",
        rich_help_panel=_DATA,
    ),
]
Resize = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Images: the shorter side, or 224x320.", rich_help_panel=_DATA)
]
Mean = Annotated[
    str | None, typer.Option(metavar="R,G,B", help="Images: subtract, after scaling.", rich_help_panel=_DATA)
]
Std = Annotated[str | None, typer.Option(metavar="R,G,B", help="Images: divide by, after that.", rich_help_panel=_DATA)]
Scale = Annotated[
    Fraction,
    typer.Option(
        metavar="RATIO", parser=read_ratio, help="Images: multiply 0..255 by this first.", rich_help_panel=_DATA
    ),
]
Sites = Annotated[
    list[str], typer.Option("--site", metavar="GLOB", help="Only these sites. Repeatable.", rich_help_panel=_WHAT)
]
SkipSites = Annotated[
    list[str], typer.Option("--skip-site", metavar="GLOB", help="Not these. Repeatable.", rich_help_panel=_WHAT)
]
FeatureAxes = Annotated[
    list[str],
    typer.Option(
        "--feature-axis",
        metavar="SITE=AXIS",
        help="The axis that holds a site's units; none: the site is one unit. Repeatable.",
        rich_help_panel=_WHAT,
    ),
]
Statistics = Annotated[
    Stats,
    typer.Option(
        "--stats",
        help="fired: which units fired at all; rates: how often; full: maxima and means too. Only full looks for NaN in"
        " units that fired.",
        rich_help_panel=_WHAT,
    ),
]
UntilVerdict = Annotated[
    bool,
    typer.Option("--until-verdict", help="Stop once dead units cannot fail the gate any more.", rich_help_panel=_GATE),
]
UntilLikely = Annotated[
    bool,
    typer.Option(
        "--until-likely",
        help="Stop also once they will, at --confidence, if the samples come in random order.",
        rich_help_panel=_GATE,
    ),
]
MaxDead = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        parser=read_fraction,
        help="Fail if a larger share of a site's units is dead: 5% or 0.05.",
        rich_help_panel=_GATE,
    ),
]
MaxDeadTotal = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", parser=read_fraction, help="The same over all units together.", rich_help_panel=_GATE
    ),
]
Limits = Annotated[
    list[str],
    typer.Option(
        metavar="SITE=SHARE",
        help="Another --max-dead for the sites that match a glob; the last that matches counts. Repeatable.",
        rich_help_panel=_GATE,
    ),
]
BaselineFile = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="FILE",
        help="Fail if a site has more dead units than in this file.",
        rich_help_panel=_GATE,
    ),
]
UpdateBaseline = Annotated[
    bool,
    typer.Option(
        "--update-baseline",
        help="Write what is dead now into it; never more than before without --force.",
        rich_help_panel=_GATE,
    ),
]
Tolerance = Annotated[
    str,
    typer.Option(
        metavar="N or SHARE",
        help="How many more dead units a site may have than the baseline: 2, or 1% of them.",
        rich_help_panel=_GATE,
    ),
]
RareBelow = Annotated[
    float,
    typer.Option(
        metavar="SHARE", parser=read_fraction, help="Rare: fires at fewer of its positions.", rich_help_panel=_GATE
    ),
]
Confidence = Annotated[
    float,
    typer.Option(metavar="LEVEL", parser=read_level, help="Confidence of the silence bound.", rich_help_panel=_GATE),
]
Select = Annotated[list[str], typer.Option(metavar="CODE", help="Only these rules. Repeatable.", rich_help_panel=_GATE)]
Ignore = Annotated[
    list[str],
    typer.Option(
        metavar="CODE", help="Not these rules; CODE@SITE for a glob of sites. Repeatable.", rich_help_panel=_GATE
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="A skipped site fails the gate too.", rich_help_panel=_GATE)]
ExitZero = Annotated[
    bool, typer.Option("--exit-zero", help="Exit 0 where the gate fails (and nowhere else).", rich_help_panel=_GATE)
]
PlainFormat = Annotated[Plain, typer.Option("--format", help="What goes to stdout.", rich_help_panel=_OUTPUT)]
ReportFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",  # Typer would list the names here, and break one in two
        help=f"What goes to stdout: {', '.join(Format)}.",
        rich_help_panel=_OUTPUT,
    ),
]
Outputs = Annotated[
    list[str],
    typer.Option(
        "--output",
        "-o",
        metavar="FORMAT=PATH",
        help="Write the report to a file too. Repeatable.",
        rich_help_panel=_OUTPUT,
    ),
]
Full = Annotated[bool, typer.Option("--full", help="List the healthy sites too.", rich_help_panel=_OUTPUT)]
Units = Annotated[
    list[str],
    typer.Option(metavar="SITE", help="Draw each unit of these sites instead of the table.", rich_help_panel=_OUTPUT),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No notes and no progress bar on stderr.", rich_help_panel=_OUTPUT)
]
