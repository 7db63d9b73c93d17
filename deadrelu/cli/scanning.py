"""What several commands begin with: the options that say which model and which data, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from deadrelu.cli import console, process, ranks, values
from deadrelu.cli import options as o
from deadrelu.cli.choices import Device
from deadrelu.cli.values import BatchSize
from deadrelu.errors import UsageError
from deadrelu.judge.policy import Policy
from deadrelu.report import Report

if TYPE_CHECKING:
    from deadrelu.report.advice import PatchResult


@dataclass(frozen=True)
class Asked:
    """The options that were given: `common` go to every function of the API, `chosen` to a scan alone.

    `unmatched` says what a glob is that matches no site: settings which several models share may fit only some of them.
    """

    data: str | None
    common: Mapping[str, Any]
    chosen: Mapping[str, Any]
    images: Mapping[str, Any]
    trust: Mapping[str, Any]
    quiet: bool = False
    invocation: tuple[str, ...] = ()
    of_model: tuple[str, ...] = ()
    unmatched: Literal["error", "note"] = "error"

    def scan(self, model: str, *, policy: Policy, **how: Any) -> Report:
        """Run the model over the data, `how` it says, and judge the result. Raises what `deadrelu.scan` raises."""
        import deadrelu

        others = ranks.joined()
        with (
            others.together() if others else nullcontext(),
            console.user_code(quiet=self.quiet),
            console.progress(self._total, quiet=self.quiet) as advance,
        ):
            options = {**self._common(), **self.chosen, **how}
            options |= {"unmatched": self.unmatched, "invocation": self.invocation}
            if others:
                options |= {"ranks": others.ranks(), "device": others.device_for(options["device"])}
            report = deadrelu.scan(model, self.data, **options, policy=policy, progress=advance)
        if others and others.rank:
            raise typer.Exit  # rank 0 goes on: it judges, shows and writes for all
        return report

    def patch(self, model: str, output: Path, **order: Any) -> PatchResult:
        """Swap, write and prove, as `order` says. Raises what `deadrelu.patch` raises."""
        import deadrelu

        if ranks.joined():
            raise UsageError("a patch is made by one process", hint="run it without torchrun")

        with console.user_code(quiet=self.quiet), console.progress(self._total, quiet=self.quiet) as advance:
            options = {**self._common(), **order, "unmatched": self.unmatched}
            return deadrelu.patch(model, self.data, **options, output=output, progress=advance)

    @property
    def _total(self) -> int | None:
        samples: int | None = self.common["samples"]
        return samples

    def _common(self) -> dict[str, Any]:
        """The options that need torch: it comes here, after all the others have been read."""
        with process.importing():
            import torch  # noqa: F401
        from deadrelu.data.spec import ImageOptions
        from deadrelu.load.trust import Trust

        return {**self.common, "images": ImageOptions(**self.images), "trust": Trust(**self.trust)}


def ask(
    *,
    arch: o.Arch = None,
    arch_arg: o.ArchArgs = [],  # noqa: B006 - Typer reads the default and never changes it
    weights_key: o.WeightsKey = None,
    trust: o.TrustFile = False,
    trust_sha256: o.TrustSha256 = [],  # noqa: B006
    allow: o.Allow = [],  # noqa: B006
    device: o.DeviceChoice = Device.AUTO,
    device_map: o.DeviceMapChoice = None,
    data: o.Data = None,
    data_key: o.DataKey = None,
    batch_size: o.BatchSizeChoice = BatchSize(64),  # noqa: B008 - it is a number
    batch_axis: o.BatchAxis = None,
    samples: o.Samples = None,
    seed: o.Seed = None,
    input_shape: o.InputShape = [],  # noqa: B006
    input: o.Inputs = [],  # noqa: B006
    resize: o.Resize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = Fraction(1, 255),
    site: o.Sites = [],  # noqa: B006
    skip_site: o.SkipSites = [],  # noqa: B006
    feature_axis: o.FeatureAxes = [],  # noqa: B006
) -> Asked:
    """Read the options. Raises `UsageError` for a value that cannot be read."""
    return Asked(
        data=data,
        common={
            "arch": arch,
            "arch_args": values.read_json_pairs(arch_arg, "--arch-arg", "KEY=JSON"),
            "weights_key": weights_key,
            "device": device.value,
            "data_key": data_key,
            "batch_size": int(batch_size) or None,
            "batch_axis": batch_axis,
            "samples": samples,
            "seed": seed,
            "input_shapes": values.read_shapes(input_shape),
            "inputs": values.read_json_pairs(input, "--input", "NAME=JSON"),
            "feature_axes": values.read_feature_axes(feature_axis),
        },
        chosen={
            "sites": site,
            "skip_sites": skip_site,
            "device_map": device_map.value if device_map else None,
        },
        images={
            "resize": values.read_size(resize),
            "mean": values.read_floats(mean, "--mean"),
            "std": values.read_floats(std, "--std"),
            "scale": float(scale),
        },
        trust={"all": trust, "sha256": tuple(trust_sha256), "allow": tuple(allow)},
    )


def asked_by(context: typer.Context, *, quiet: bool) -> Asked:
    """The shared options of a command. Raises `UsageError` for a value that cannot be read."""
    origin = context.obj
    return replace(
        ask(**{name: context.params[name] for name in signature(ask).parameters if name in context.params}),
        quiet=quiet,
        invocation=origin.invocation,
        of_model=origin.of_model,
        unmatched="error" if origin.model is None else "note",
    )
