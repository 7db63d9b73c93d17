"""What `import deadrelu` offers: `scan`, `suggest`, `patch`, `open_model`. Torch comes when it is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from deadrelu.errors import UsageError
from deadrelu.judge.early import Until
from deadrelu.judge.policy import Policy, policy_of
from deadrelu.judge.shares import Limits, Share
from deadrelu.report import Report, Setting, Stats
from deadrelu.report.commands import words_of

if TYPE_CHECKING:
    from torch import nn

    from deadrelu.data.images import ImageOptions
    from deadrelu.data.request import Shapes
    from deadrelu.load.open import Opened
    from deadrelu.load.trust import Trust
    from deadrelu.measure.distributed import Ranks
    from deadrelu.measure.scan import Unmatched
    from deadrelu.report.advice import Advice, PatchResult

P = ParamSpec("P")
R = TypeVar("R")


def _undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which leaves the process as it found it, whatever the user's code changes."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from deadrelu.programs.undisturbed import undisturbed

        with undisturbed():
            return function(*args, **kwargs)

    return call


def open_model(
    model: str | Path,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    weights_key: str | None = None,
    trust: Trust | None = None,
) -> Opened:
    """Open a saved model without running code from the file, unless `trust` allows it.

    `model` is a file, a Hugging Face folder, or an architecture spec as `arch` takes it (`pkg.mod:Name`,
    `path/model.py:Name`, `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`). The result has `.module` and `.info`.
    Raises `FileError`, `TrustError` or `ArchitectureError`, each with a hint.
    """
    from deadrelu.load import open as opening
    from deadrelu.load.trust import Trust

    return opening.open_model(
        model, arch=arch, arch_args=arch_args or {}, weights_key=weights_key, trust=trust or Trust()
    )


@_undisturbed
def scan(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    weights_key: str | None = None,
    trust: Trust | None = None,
    device: str | None = None,
    device_map: str | None = None,
    data_key: str | None = None,
    batch_size: int | None = 64,
    batch_axis: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
    input_shapes: Shapes | None = None,
    inputs: Mapping[str, object] | None = None,
    images: ImageOptions | None = None,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    feature_axes: Mapping[str, int | None] | None = None,
    max_dead: Share | None = None,
    max_dead_total: Share | None = None,
    limits: Limits = (),
    strict: bool = False,
    policy: Policy | None = None,
    stats: Stats = "full",
    until: Until | None = None,
    unmatched: Unmatched = "error",
    progress: Callable[[int], None] | None = None,
    ranks: Ranks | None = None,
    invocation: Sequence[str] | None = None,
) -> Report:
    """Run `model` over `data`, count where every activation unit fires, and judge the result.

    `model` is a live module, which comes back as it was, or anything that `open_model` takes. `data` is a tensor, an
    array, a DataLoader or Dataset, an iterable of batches, a path, or a `pkg.mod:attr` spec; None synthesises noise
    (shape `input_shapes`, without the batch dimension), and the report says so. What you give goes into the model as it
    is; files alone are cast to its types. `batch_size` None gives all of a tensor or file to one call; `batch_axis` is
    the axis of the input that counts the samples (None: 0, or 1 where the model takes time first); `inputs` are more
    arguments for every call, by name. `device` is auto, cpu, cuda or mps;
    None leaves a live module where it is. `device_map` "auto" spreads a Hugging Face folder over all devices, by
    accelerate. `sites` and `skip_sites` are globs over site ids; `feature_axes` maps such globs to the axis that holds
    the units, None for a single unit. The gate fails where a larger share of a site's units is dead than `max_dead`
    (`0.05`, `"5%"` or a `Fraction`), or than `limits` says of the sites that match its globs (`{"head.*": "20%"}`), or
    of all units together than `max_dead_total`; `strict` also fails on skipped sites and guessed axes; a `policy` says
    all of that, and more, in one. `stats` is how much is measured: "fired" (which units fired at all), "rates" (how
    often), or "full" (also maxima, means, and everything that is not finite). `until` "verdict" stops as
    soon as dead units cannot fail the gate any more, "likely" also when they will in all likelihood; the report says
    so. A glob that matches no site, here or in the policy, raises `UsageError`, or is noted with `unmatched` "note".
    `progress` is called with the number of samples seen so far after each batch. Inside a process group of
    torch.distributed that you have initialised, every process measures what it is given, unless you give `ranks`
    (`deadrelu.measure.distributed.Ranks()`): then they share the work, and each gets the whole report. `invocation` is
    the command line that led here, for the commands that the report prints; by default it is
    made from the arguments.

    Raises a `DeadreluError` with a hint: `FileError`, `TrustError`, `ArchitectureError`, `DataError`, `ModelError`,
    `UsageError`, or `NothingMeasuredError`.
    """
    import torch

    from deadrelu.data.request import DataRequest
    from deadrelu.load.open import describe
    from deadrelu.load.spread import place
    from deadrelu.measure.reporting import report_on
    from deadrelu.measure.scan import Plan
    from deadrelu.programs.device import choose_device

    policy = policy_of(policy, max_dead=max_dead, max_dead_total=max_dead_total, limits=limits, strict=strict)
    if until is not None and ranks is not None:
        raise UsageError("processes that share the work cannot stop early", hint="scan in one process, or all the data")
    if isinstance(model, torch.nn.Module):
        opened = describe(model, None, "live module", None)
    else:
        opened = open_model(model, arch=arch, arch_args=arch_args, weights_key=weights_key, trust=trust)
        device = device or "auto"
    if device_map is not None:
        place(opened, device_map, device if ranks is None else "one a rank")
        device = None
    program = opened.program(choose_device(device))
    request = DataRequest(
        data=data,
        batch_size=batch_size,
        batch_axis=batch_axis,
        samples=samples,
        seed=seed,
        data_key=data_key,
        input_shapes=input_shapes,
        inputs=inputs or {},
        images=images,
    )
    batches = request.batches(program)
    if ranks is not None:
        batches = batches.of(ranks.shard)
    plan = Plan(
        sites=tuple(sites),
        skip_sites=tuple(skip_sites),
        feature_axes=feature_axes,
        rare_below=policy.rare_below,
        confidence=policy.confidence,
        stats=stats,
        selectors=policy.selectors,
        unmatched=unmatched,
    )
    if invocation is None and not isinstance(model, torch.nn.Module) and isinstance(data, (str, Path, NoneType)):
        invocation = words_of(
            model,
            {
                "arch": arch,
                "arch-arg": {name: json.dumps(value, default=str) for name, value in (arch_args or {}).items()},
                "weights-key": weights_key,
                **(trust.options() if trust else {}),
                "device": device,
                "device-map": device_map,
                **request.options(),
                "site": sites,
                "skip-site": skip_sites,
                "feature-axis": feature_axes,
                "stats": stats,
                **{name.replace("_", "-"): value for name, value in policy.to_settings().items()},
            },
        )
    settings: dict[str, Setting] = {
        "invocation": None if invocation is None else tuple(invocation),
        "arch": arch,
        "weights_key": weights_key,
        "data_key": data_key,
        "batch_size": batch_size,
        "batch_axis": batch_axis,
        "samples": samples,
        "inputs": tuple(f"{name}={json.dumps(value, default=str)}" for name, value in (inputs or {}).items()),
        "sites": tuple(sites),
        "skip_sites": tuple(skip_sites),
        "feature_axes": tuple(
            f"{glob}={'none' if axis is None else axis}" for glob, axis in (feature_axes or {}).items()
        ),
    }
    return report_on(
        program,
        opened.info,
        batches,
        batches.info,
        plan=plan,
        policy=policy,
        settings=settings,
        progress=progress,
        ranks=ranks,
        until=until,
    )


@_undisturbed
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
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    weights_key: str | None = None,
    trust: Trust | None = None,
    device: str | None = None,
    data_key: str | None = None,
    batch_size: int | None = 64,
    batch_axis: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
    input_shapes: Shapes | None = None,
    inputs: Mapping[str, object] | None = None,
    images: ImageOptions | None = None,
    feature_axes: Mapping[str, int | None] | None = None,
    unmatched: Unmatched = "error",
    progress: Callable[[int], None] | None = None,
) -> PatchResult:
    """Swap the activations that have dead units for ones that leak, and prove what that changed.

    A saved model is written to `output` (by default beside it, as `NAME.patched.pt`), read back in a fresh process and
    compared with the original on `data`; a file that fails the proof is not left behind. A live module is patched in
    place, and given back as it was where the proof fails. `slope` is that of the leak; `to` is one of
    `deadrelu.activations.REPLACEMENTS`; `sites` holds "dead", "all" or globs over site ids. `only_dead_units`
    leaks in the dead units alone, `reinit` restarts them without moving the output (Sokar et al. 2023). `to_pt2`
    exports the model first, so that functional calls can be swapped too. `preview` writes and changes nothing. The rest
    is as for `scan`.

    Raises a `DeadreluError` with a hint; `ModelError` where the proof fails.
    """
    import torch

    from deadrelu.data.request import DataRequest
    from deadrelu.load.trust import Trust
    from deadrelu.measure.scan import Plan
    from deadrelu.programs.device import choose_device
    from deadrelu.remedy.outputs import default_output
    from deadrelu.remedy.patch import patch_file, patch_module
    from deadrelu.remedy.reopen import ModelRequest
    from deadrelu.remedy.swap import SwapOptions

    wanted = SwapOptions(to=to, slope=slope, sites=tuple(sites), only_dead_units=only_dead_units, reinit=reinit)
    plan = Plan(feature_axes=feature_axes, unmatched=unmatched)
    request = DataRequest(
        data=data,
        batch_size=batch_size,
        batch_axis=batch_axis,
        samples=samples,
        seed=seed,
        data_key=data_key,
        input_shapes=input_shapes,
        inputs=inputs or {},
        images=images,
    )
    if isinstance(model, torch.nn.Module):
        return patch_module(model, request, wanted, plan, choose_device(device), preview=preview)
    opening = ModelRequest(
        model=str(model),
        arch=arch,
        arch_args=arch_args,
        weights_key=weights_key,
        trust=trust or Trust(),
        device=device or "auto",
    )
    path = Path(output) if output is not None else default_output(model, to_pt2=to_pt2)
    return patch_file(
        opening, path, request, wanted, plan, to_pt2=to_pt2, force=force, preview=preview, progress=progress
    )


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
