"""What `import deadrelu` offers: `open_model` and `scan`. Torch is imported when they are called, not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy, judge
from deadrelu.report import Report, Setting, Tool

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deadrelu.data.images import ImageOptions
    from deadrelu.load.open import Opened
    from deadrelu.load.trust import Trust

Shapes = Mapping[str, tuple[int, ...]] | Sequence[tuple[int, ...]]


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


def scan(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    weights_key: str | None = None,
    trust: Trust | None = None,
    device: str | None = None,
    data_key: str | None = None,
    batch_size: int = 64,
    samples: int | None = None,
    seed: int | None = None,
    input_shapes: Shapes | None = None,
    images: ImageOptions | None = None,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    feature_axes: Mapping[str, int] | None = None,
    policy: Policy | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run `model` over `data`, count where every activation unit fires, and judge the result by `policy`.

    `model` is a live module, which comes back as it was, or anything that `open_model` takes. `data` is a tensor, an
    array, a DataLoader or Dataset, an iterable of batches, a path, or a `pkg.mod:attr` spec; None synthesises noise
    (shape `input_shapes`, without the batch dimension), and the report says so. `device` is auto, cpu, cuda or mps;
    None leaves a live module where it is. `sites` and `skip_sites` are globs over site ids; `feature_axes` maps such
    globs to the axis that tells units apart. `progress` is told the samples seen so far after each batch.

    Raises a `DeadreluError` with a hint: `FileError`, `TrustError`, `ArchitectureError`, `DataError`, `ModelError`,
    `UsageError`, or `NothingMeasuredError`.
    """
    import torch

    from deadrelu import __version__
    from deadrelu.data.source import open_data
    from deadrelu.data.synthetic import synthesise
    from deadrelu.load.open import describe
    from deadrelu.measure.scan import Plan, measure
    from deadrelu.programs.eager import EagerProgram

    policy = policy or Policy()
    if isinstance(model, torch.nn.Module):
        opened = describe(model, None, "live module", None)
    else:
        opened = open_model(model, arch=arch, arch_args=arch_args, weights_key=weights_key, trust=trust)
        device = device or "auto"
    program = EagerProgram(opened.module, _device(device))
    if data is None:
        batches = synthesise(
            program, input_shapes=input_shapes, samples=samples or 256, batch_size=batch_size, seed=seed or 0
        )
    else:
        if input_shapes:
            raise UsageError("--input-shape is for synthetic data, and --data was given", hint="leave one of them out")
        batches = open_data(
            data, program, batch_size=batch_size, samples=samples, seed=seed, data_key=data_key, images=images
        )
    plan = Plan(
        sites=tuple(sites),
        skip_sites=tuple(skip_sites),
        feature_axes=feature_axes,
        rare_below=policy.rare_below,
        confidence=policy.confidence,
    )
    measured = measure(program, batches, plan, progress)
    settings: dict[str, Setting] = {
        "arch": arch,
        "weights_key": weights_key,
        "data_key": data_key,
        "batch_size": batch_size,
        "sites": tuple(sites),
        "skip_sites": tuple(skip_sites),
        "feature_axes": tuple(f"{glob}={axis}" for glob, axis in (feature_axes or {}).items()),
    }
    report = Report(
        tool=Tool(name="deadrelu", version=__version__, torch=torch.__version__),
        model=opened.info,
        data=replace(batches.info, samples=measured.samples, batches=measured.batches),
        settings=settings,
        sites=measured.sites,
        skipped=measured.skipped,
    )
    return judge(report, policy)


def _device(name: str | None) -> torch.device | None:
    """The device of that name; "auto" is the fastest there is, None is wherever the model lies."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return None
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(device for device, there in available.items() if there)
        raise UsageError(f"there is no device {name!r} on this machine", hint=f"--device auto, or one of: {there}")
    return torch.device(name)
