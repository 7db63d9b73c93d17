"""The exact command lines that a report can suggest: the same model, code and data as in its own scan."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator

from deadrelu.report import Report, Site

_WEIGHTS_ALONE = ("torch-state-dict", "safetensors")
_CODE = ("torchscript", "torch-export", "torch-sharded")
"""Formats that run code when they are opened: whoever scanned such a file has trusted it."""

_PAIRS = {"feature_axes": "--feature-axis", "inputs": "--input"}
_KEPT = {"arch": "--arch", "weights_key": "--weights-key", "data_key": "--data-key"}


def scan_command(report: Report, *options: str, data: str | None = None) -> str:
    """`deadrelu scan` as it was done, with more options; `data` replaces the data, DATA stands where none was named."""
    return shlex.join(["deadrelu", "scan", *_inputs(report, data), *options])


def patch_command(report: Report, *options: str) -> str:
    """`deadrelu patch` of the model that was scanned, on the data that it was scanned on."""
    return shlex.join(["deadrelu", "patch", *_inputs(report, None), *options])


def suggest_command(report: Report) -> str:
    """`deadrelu suggest` for the model that was scanned, on the data that it was scanned on."""
    return shlex.join(["deadrelu", "suggest", *_inputs(report, None)])


def site_glob(site: Site) -> str:
    """The glob for the sites that are swapped with this one: all calls of its module, or a functional call alone."""
    return id_glob(site.module) + "#*" if site.swappable and site.calls > 1 else id_glob(site.id)


def id_glob(name: str) -> str:
    """A glob that matches this id: brackets and commas escaped, and `?` for what cannot be typed (a line break)."""
    escaped = glob.escape(name).replace(",", "[,]")
    return "".join(sign if sign.isprintable() else "?" for sign in escaped)


def _inputs(report: Report, data: str | None) -> Iterator[str]:
    """The model, its code, and the data, with the settings of the scan that say how they are read."""
    yield report.model.path or "MODEL"
    settings = dict(report.settings)
    if settings.get("arch") is None and report.model.format in _WEIGHTS_ALONE:
        settings["arch"] = "SPEC"
    for name, flag in _KEPT.items():
        value = settings.get(name)
        if isinstance(value, str) and not (name == "data_key" and data is not None):
            yield from (flag, value)
    if report.model.format in _CODE:
        yield "--trust"
    for name, flag in _PAIRS.items():
        pairs = settings.get(name)
        for pair in pairs if isinstance(pairs, tuple) else ():
            yield from (flag, pair)
    if "batch_size" in settings and settings["batch_size"] is None:
        yield from ("--batch-size", "none")
    axis = settings.get("batch_axis")
    if isinstance(axis, int):
        yield from ("--batch-axis", str(axis))
    source = None if report.data.kind == "synthetic" else report.data.source
    yield from ("--data", data or source or "DATA")
