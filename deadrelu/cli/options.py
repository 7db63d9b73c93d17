"""The options that commands share: their flags, their help, and how each value is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from deadrelu.errors import UsageError
from deadrelu.judge.policy import parse_fraction
from deadrelu.render.formats import Format

_MODEL = "Model"
_DATA = "Data"
_WHAT = "What to measure"
_GATE = "Gate"
_OUTPUT = "Output"

Value = TypeVar("Value")


class Device(str, Enum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Plain(str, Enum):
    """What a command shows that makes no report: a table for a person, or JSON for a script."""

    TABLE = "table"
    JSON = "json"


def read_fraction(text: str | float) -> float:
    """`5%` or `0.05`; Typer hands the default, which is a number already, through here too."""
    try:
        return text if isinstance(text, float) else parse_fraction(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error  # Typer knows which flag it was


def read_ratio(text: str | Fraction) -> Fraction:
    """`1/255`, `0.5` or `2`, kept exact so that the help shows it as it is written."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter(f"{text!r} is no number (write 1/255, 0.5 or 1)") from error


def read_pair(text: str, flag: str, form: str) -> tuple[str, str]:
    """`key=value` as two strings. Raises `UsageError` that shows the right `form`."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise UsageError(f"{flag} {text!r} is not of the form {form}", hint=f"write {flag} {form}")
    return key, value


def read_arch_args(texts: Sequence[str]) -> dict[str, object]:
    """`key=json` pairs as keyword arguments; a value that is no JSON is an error, not a string."""
    out: dict[str, object] = {}
    for text in texts:
        key, value = read_pair(text, "--arch-arg", "KEY=JSON")
        try:
            out[key] = json.loads(value)
        except ValueError:
            raise UsageError(
                f"--arch-arg {key}: {value!r} is no JSON", hint=f"""for a string write --arch-arg '{key}="{value}"'"""
            ) from None
    return out


def read_feature_axes(texts: Sequence[str]) -> dict[str, int]:
    """`GLOB=AXIS` pairs, or a bare `AXIS` for every site."""
    pairs = (read_pair(t if "=" in t else f"*={t}", "--feature-axis", "SITE=AXIS") for t in texts)
    return {glob: _integers(axis, "--feature-axis", "SITE=AXIS", least=-8)[0] for glob, axis in pairs}


def read_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | tuple[tuple[int, ...], ...]:
    """`3,32,32` for each input in order, or `name=3,32,32` for each by its name."""
    form = "3,32,32 or NAME=3,32,32"
    named = ["=" in text for text in texts]
    if any(named) and not all(named):
        raise UsageError("--input-shape names some inputs and not others", hint="name all of them, or none")
    if any(named):
        pairs = (read_pair(text, "--input-shape", form) for text in texts)
        return {name: _integers(sizes, "--input-shape", form) for name, sizes in pairs}
    return tuple(_integers(text, "--input-shape", form) for text in texts)


def read_size(text: str | None) -> int | tuple[int, int] | None:
    """`224` for the shorter side, `224x320` for height and width."""
    if text is None:
        return None
    sizes = _integers(text.replace("x", ","), "--resize", "224 or 224x320")
    if len(sizes) > 2:
        raise UsageError(f"--resize {text!r} has {len(sizes)} sizes", hint="write --resize 224 or 224x320")
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def read_floats(text: str | None, flag: str) -> tuple[float, ...] | None:
    """`0.485,0.456,0.406`: one number a channel."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{flag} {text!r} is no list of numbers", hint=f"write {flag} 0.485,0.456,0.406") from None


def _integers(text: str, flag: str, form: str, *, least: int = 1) -> tuple[int, ...]:
    """Comma-separated integers, none below `least`."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise UsageError(f"{flag} {text!r} is not of the form {form}", hint=f"write {flag} {form}")
    return numbers


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A saved model, a Hugging Face folder, or a spec as --arch takes it.")
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
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Samples a batch.", rich_help_panel=_DATA)]
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
        help="The axis that tells units apart. Repeatable.",
        rich_help_panel=_WHAT,
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
    typer.Option(metavar="LEVEL", parser=read_fraction, help="Confidence of the silence bound.", rich_help_panel=_GATE),
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
ReportFormat = Annotated[Format, typer.Option("--format", help="What goes to stdout.", rich_help_panel=_OUTPUT)]
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


def output_paths(texts: Sequence[str], formats: type[Enum]) -> list[tuple[str, Path]]:
    """`FORMAT=PATH` pairs. Raises `UsageError` for a format that is none."""
    names = [str(member.value) for member in formats]
    out = []
    for text in texts:
        name, path = read_pair(text, "-o", "FORMAT=PATH")
        if name not in names:
            raise UsageError(f"-o {text}: {name!r} is no format", hint=f"the formats: {', '.join(names)}")
        out.append((name, Path(path)))
    return out
