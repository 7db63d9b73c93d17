"""The options by which commands open a model, read data and choose what to measure; each group as one function.

A function declares its options in its signature, and returns what they say as keywords of `deadrelu.scan`. A new option
of the data is a parameter here and a field of `DataSpec`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

import typer

from deadrelu.cli import values
from deadrelu.cli.general import DATA, MODEL, WHAT
from deadrelu.cli.options import choice, option_in, split
from deadrelu.cli.values import SamplesPerBatch, read_batch_size, read_ratio, read_whole, split_globs
from deadrelu.data.spec import ImageOptions
from deadrelu.errors import UsageError
from deadrelu.load.trust import Trust

Device = Literal["auto", "cpu", "cuda", "mps"]

_model, _data, _what = map(option_in, (MODEL, DATA, WHAT))


def _measured(context: typer.Context, parameter: typer.CallbackParam, globs: list[str]) -> list[str]:
    """The sites to measure. The words of `patch` are left out: `all` does not restrict, `dead` is not known yet."""
    source = context.get_parameter_source(parameter.name or "")
    wanted = split_globs(globs)
    if "dead" in wanted and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--site dead is for `deadrelu patch`", hint="a scan finds the dead units: leave it out")
    return [glob for glob in wanted if glob not in ("dead", "all")]


def model_options(
    *,
    arch: Annotated[
        str | None,
        _model(
            metavar="SPEC",
            help="Code for the weights: pkg.mod:Name, path/model.py:Name, timm:NAME, torchvision:NAME or hf:FOLDER.",
        ),
    ] = None,
    arch_arg: Annotated[
        list[str],
        _model(
            "--arch-arg", metavar="KEY=JSON", help="Keyword argument for --arch, such as num_classes=10. Repeatable."
        ),
    ] = [],
    weights_key: Annotated[
        str | None, _model(metavar="KEY", help="Which weights to take from a checkpoint that holds several.")
    ] = None,
    trust: Annotated[bool, _model("--trust", help="Run the code that the model file carries.")] = False,
    trust_sha256: Annotated[
        list[str], _model(metavar="HEX", help="Run its code only if the file has this SHA-256. Repeatable.")
    ] = [],
    allow: Annotated[list[str], _model(metavar="PKG.CLASS", help="Let the file use this one class. Repeatable.")] = [],
    device: Annotated[
        Device, choice(get_args(Device), "--device", help="Where to run the model.", panel=MODEL)
    ] = "auto",
) -> dict[str, Any]:
    """How a model is opened."""
    return {
        "arch": arch,
        "arch_args": values.read_json_pairs(arch_arg, "--arch-arg", "KEY=JSON"),
        "weights_key": weights_key,
        "trust": Trust(all=trust, sha256=tuple(trust_sha256), allow=tuple(allow)),
        "device": device,
    }


_DataOption = Annotated[
    str | None,
    _data(
        metavar="DATA",
        help="A .npy, .npz, .pt or .safetensors file, a folder of images, or pkg.mod:attr. Default: synthetic noise.",
    ),
]
_DataKeyOption = Annotated[
    str | None,
    _data(metavar="NAME", help="Arrays of the file to feed, such as x or x,mask. Default: by the names in forward."),
]
_BatchSizeOption = Annotated[
    SamplesPerBatch,
    _data(
        "--batch-size",
        metavar="N",
        parser=read_batch_size,
        help="Samples per batch; none runs all of the data in one call.",
    ),
]
_BatchAxisOption = Annotated[
    int | None,
    _data(
        metavar="N",
        parser=read_whole(0),
        help="Input axis that counts samples. Default: 0, or 1 for a model that takes time first.",
    ),
]
_SamplesOption = Annotated[
    int | None,
    _data(metavar="N", parser=read_whole(1), help="Stop after this many samples. Default: all, or 512 of noise."),
]
_SeedOption = Annotated[
    int | None,
    _data(
        metavar="N",
        parser=read_whole(),
        help="Seed for drawing --samples at random, and for noise. Default: the first samples, and 0.",
    ),
]
_InputShapeOption = Annotated[
    list[str],
    _data(
        metavar="SHAPE",
        help="Shape of synthetic input, without the batch axis: 3,32,32 or NAME=3,32,32. Repeatable.",
    ),
]
_InputOption = Annotated[
    list[str],
    _data("--input", metavar="NAME=JSON", help="Argument of every call of the model, such as sr=16000. Repeatable."),
]
_ResizeOption = Annotated[
    str | None, _data(metavar="SIZE", help="Images: resize the shorter side to SIZE, or both sides to 224x320.")
]
_MeanOption = Annotated[str | None, _data(metavar="R,G,B", help="Images: subtract this after scaling. Default: 0.")]
_StdOption = Annotated[str | None, _data(metavar="R,G,B", help="Images: then divide by this. Default: 1.")]
_ScaleOption = Annotated[
    Fraction, _data(metavar="RATIO", parser=read_ratio, help="Images: first multiply pixels 0..255 by this.")
]


def data_options(
    *,
    data: _DataOption = None,
    data_key: _DataKeyOption = None,
    batch_size: _BatchSizeOption = SamplesPerBatch(64),
    batch_axis: _BatchAxisOption = None,
    samples: _SamplesOption = None,
    seed: _SeedOption = None,
    input_shape: _InputShapeOption = [],
    input: _InputOption = [],
    resize: _ResizeOption = None,
    mean: _MeanOption = None,
    std: _StdOption = None,
    scale: _ScaleOption = Fraction(1, 255),
) -> dict[str, Any]:
    """Where the batches come from."""
    return {
        "data": data,
        "data_key": data_key,
        "batch_size": int(batch_size) or None,
        "batch_axis": batch_axis,
        "samples": samples,
        "seed": seed,
        "input_shapes": values.read_shapes(input_shape),
        "inputs": values.read_json_pairs(input, "--input", "NAME=JSON"),
        "images": ImageOptions(
            resize=values.read_size(resize),
            mean=values.read_floats(mean, "--mean"),
            std=values.read_floats(std, "--std"),
            scale=float(scale),
        ),
    }


def spread_options(
    *,
    device_map: Annotated[
        Literal["auto"] | None,
        choice(
            ("auto",),
            "--device-map",
            help="Spread a Hugging Face folder over all devices with accelerate.",
            panel=MODEL,
        ),
    ] = None,
) -> dict[str, Any]:
    """Over which devices a model is spread."""
    return {"device_map": device_map}


def site_options(
    *,
    site: Annotated[
        list[str],
        _what(
            "--site", metavar="GLOB", callback=_measured, help="Measure only sites that match this glob. Repeatable."
        ),
    ] = [],
    skip_site: Annotated[
        list[str],
        _what("--skip-site", metavar="GLOB", callback=split, help="Exclude sites that match this glob. Repeatable."),
    ] = [],
) -> dict[str, Any]:
    """Which sites are measured."""
    return {"sites": site, "skip_sites": skip_site}


def loss_options(
    *,
    loss: Annotated[
        str | None,
        _what(
            metavar="NAME|FILE.py:FN",
            help="Measure gradients too, of this loss: cross_entropy, mse, l1, bce_with_logits, nll, or a function of"
            " output and labels.",
        ),
    ] = None,
    label_key: Annotated[
        str | None,
        _data(metavar="NAME", help="Array that holds the labels for --loss. Default: y, label(s) or target(s)."),
    ] = None,
) -> dict[str, Any]:
    """The loss by which gradients are measured."""
    return {"loss": loss, "label_key": label_key}


def axis_options(
    *,
    feature_axis: Annotated[
        list[str],
        _what(
            "--feature-axis",
            metavar="SITE=AXIS",
            help="Axis that holds the units of a site; none makes the site one unit. Repeatable.",
        ),
    ] = [],
) -> dict[str, Any]:
    """Which axes hold the units."""
    return {"feature_axes": values.read_feature_axes(feature_axis)}
