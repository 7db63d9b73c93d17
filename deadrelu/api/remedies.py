"""`suggest`, `patch` and `prune`. Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.api.scanning import scan
from deadrelu.data.spec import DataSpec
from deadrelu.errors import UsageError
from deadrelu.keywords import takes, undisturbed
from deadrelu.load.spec import ModelSpec
from deadrelu.report import Report

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from deadrelu.api.scanning import Options
    from deadrelu.measure.plan import Unmatched
    from deadrelu.report.advice import Advice, PatchResult
    from deadrelu.report.pruned import Pruned


@takes(ModelSpec, DataSpec)
@undisturbed
def patch(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    output: str | Path | None = None,
    slope: float = 0.01,
    to: str = "leaky_relu",
    sites: Sequence[str] = ("dead",),
    only_dead_units: bool = False,
    reinit: bool = False,
    to_pt2: bool = False,
    preview: bool = False,
    force: bool = False,
    device: str | None = None,
    feature_axes: Mapping[str, int | None] | None = None,
    unmatched: Unmatched = "error",
    progress: Callable[[int], None] | None = None,
    **options: Unpack[Options],
) -> PatchResult:
    """Swap the activations that have dead units for ones that leak, and verify what that changed.

    A saved model is written to a file, read back in a fresh process and compared with the original on `data`; a file
    that fails verification is not left behind. A live module is patched in place, and restored if verification fails.

    Raises a `DeadreluError` with a hint; `ModelError` if verification fails.

    `output`: the file, or folder, to write. Default: beside the model, as `NAME.patched.pt`.
    `slope`: the slope of the leak.
    `to`: one of `deadrelu.activations.REPLACEMENTS`, or "keep", which leaves the activation for `reinit` alone.
    `sites`: "dead", "all", or globs over site ids.
    `only_dead_units`: leak in the dead units alone.
    `reinit`: restart the dead units without moving the output (Sokar et al. 2023).
    `to_pt2`: export the model first, so that functional calls can be swapped too.
    `preview`: write and change nothing.
    `force`: overwrite `output`.
    `feature_axes`, `unmatched`, `progress`: as for `scan`.
    """
    from deadrelu.measure.plan import Plan
    from deadrelu.programs.device import choose_device
    from deadrelu.remedy.choose import SwapOptions
    from deadrelu.remedy.outputs import default_output
    from deadrelu.remedy.patch import patch_file, patch_module

    wanted = SwapOptions(to=to, slope=slope, sites=tuple(sites), only_dead_units=only_dead_units, reinit=reinit)
    plan = Plan(feature_axes=feature_axes or {}, unmatched=unmatched)
    source = DataSpec.of(data, options)
    if not isinstance(model, (str, Path)):
        return patch_module(model, source, wanted, plan, choose_device(device), preview=preview)
    opening = ModelSpec.of(model, {**options, "device": device})
    path = Path(output) if output is not None else default_output(model, to_pt2=to_pt2)
    return patch_file(
        opening, path, source, wanted, plan, to_pt2=to_pt2, force=force, preview=preview, progress=progress
    )


@takes(ModelSpec, DataSpec)
@undisturbed
def prune(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    output: str | Path | None = None,
    proved: bool = False,
    box: Literal["data"] | tuple[float, float] = "data",
    margin: float = 0.0,
    rounding: bool = False,
    linearise: bool = False,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    force: bool = False,
    device: str | None = None,
    feature_axes: Mapping[str, int | None] | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Unpack[Options],
) -> Pruned:
    """Remove the dead units of a model where its outputs on `data` stay the same to the last bit.

    A saved model is written to a file, read back in a fresh process and compared with the original; a live module is
    changed in place. Each unit that stays has its reason. Raises a `DeadreluError` with a hint; `ModelError` if
    verification fails.

    `output`: the file to write. Default: beside the model, as `NAME.pruned.pt`.
    `proved`: remove only units that no input of the `box` wakes, as `deadrelu.prove` proves it; `margin` as there.
    `rounding`: let the outputs change by what the kernels of smaller layers round differently.
    `linearise`: merge units of linear layers that are proved always on for the `box` into as few as their rank; that
    may move the outputs by rounding, by at most 1e-5 of the largest for each layer.
    `sites`, `skip_sites`, `feature_axes`, `progress`: as for `scan`.
    `force`: overwrite `output`.
    """
    from deadrelu.api.certifying import box_of
    from deadrelu.measure.plan import Plan
    from deadrelu.remedy.outputs import default_output
    from deadrelu.remedy.prune.in_memory import PruneOptions
    from deadrelu.remedy.prune.prune import prune_file, prune_module

    if (box != "data" or margin) and not (proved or linearise):
        raise UsageError("a box is for proofs, and nothing is to be proved", hint="add --proved or --linearise")
    wanted = PruneOptions(proved=proved, box=box_of(box, margin), rounding=rounding, linearise=linearise)
    plan = Plan(sites=tuple(sites), skip_sites=tuple(skip_sites), feature_axes=feature_axes or {})
    source = DataSpec.of(data, options)
    if device not in (None, "auto", "cpu"):
        raise UsageError(f"--device {device}: a model is pruned on the CPU", hint="leave out --device")
    if not isinstance(model, (str, Path)):
        return prune_module(model, source, wanted, plan)
    opening = ModelSpec.of(model, {**options, "device": "cpu"})
    path = Path(output) if output is not None else default_output(model, variant="pruned")
    return prune_file(opening, path, source, wanted, plan, force=force, progress=progress)


def suggest(
    model: Report | nn.Module | str | Path,
    data: object = None,
    *,
    slope: float = 0.01,
    root: str | Path = ".",
    **options: Any,
) -> Advice:
    """What to do about each sick site of a report, best first; or of a model, which is scanned first.

    With a `Report` no torch is needed. Otherwise `model`, `data` and the `options` are those of `scan`. `slope` is that
    of a leaky ReLU for negative inputs, between 0 and 1. The source files that the report names are read relative to
    `root`, for the exact edits. Raises `UsageError` for a slope out of range and for data beside a report, and what
    `scan` raises.
    """
    from deadrelu.remedy.suggest import check_slope, suggest

    check_slope(slope)
    if not isinstance(model, Report):
        return suggest(scan(model, data, **options), slope=slope, root=Path(root))
    if given := [*(["data"] if data is not None else []), *options]:
        raise UsageError(f"a report was measured already, so {given[0]} has no effect", hint="give the model instead")
    return suggest(model, slope=slope, root=Path(root))
