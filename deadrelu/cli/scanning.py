"""The scan that several commands begin with: the options that say what to measure, in one place, and the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.judge.policy import Policy
from deadrelu.report import Report


class Scan(Protocol):
    """Runs the model as the options of the command say, and judges what was measured by `policy`."""

    def __call__(self, model: str, *, policy: Policy) -> Report:
        """Raises what `deadrelu.scan` raises."""


def run(
    model: str,
    *,
    policy: Policy,
    arch: o.Arch = None,
    arch_arg: o.ArchArgs = [],  # noqa: B006 - Typer reads the default and never changes it
    weights_key: o.WeightsKey = None,
    trust: o.TrustFile = False,
    trust_sha256: o.TrustSha256 = [],  # noqa: B006
    allow: o.Allow = [],  # noqa: B006
    device: o.DeviceChoice = o.Device.AUTO,
    data: o.Data = None,
    data_key: o.DataKey = None,
    batch_size: o.BatchSize = 64,
    samples: o.Samples = None,
    seed: o.Seed = None,
    input_shape: o.InputShape = [],  # noqa: B006
    resize: o.Resize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = Fraction(1, 255),
    site: o.Sites = [],  # noqa: B006
    skip_site: o.SkipSites = [],  # noqa: B006
    feature_axis: o.FeatureAxes = [],  # noqa: B006
    quiet: o.Quiet = False,
) -> Report:
    """Read the options, scan `model` over the data, and judge. Raises what `deadrelu.scan` raises."""
    arch_args, shapes, axes = o.read_arch_args(arch_arg), o.read_shapes(input_shape), o.read_feature_axes(feature_axis)
    size, means, stds = o.read_size(resize), o.read_floats(mean, "--mean"), o.read_floats(std, "--std")

    import deadrelu  # torch comes with the next lines: the options above are checked before that second is spent
    from deadrelu.data.images import ImageOptions
    from deadrelu.load.trust import Trust

    with console.user_code(quiet=quiet), console.progress(samples, quiet=quiet) as advance:
        return deadrelu.scan(
            model,
            data,
            arch=arch,
            arch_args=arch_args,
            weights_key=weights_key,
            trust=Trust(all=trust, sha256=tuple(trust_sha256), allow=tuple(allow)),
            device=device.value,
            data_key=data_key,
            batch_size=batch_size,
            samples=samples,
            seed=seed,
            input_shapes=shapes,
            images=ImageOptions(resize=size, mean=means, std=stds, scale=float(scale)),
            sites=site,
            skip_sites=skip_site,
            feature_axes=axes,
            policy=policy,
            progress=advance,
        )


_OF_EACH = ("model", "policy")
"""What every command gives to `run` itself."""


def scanning(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `run`; its parameter `scan` becomes the `Scan` that they make.

    Typer reads a command's options from its signature, so the two signatures are joined: MODEL first, then what is
    measured, then the command's own options, and --quiet at the end.
    """
    shared = {n: p for n, p in inspect.signature(run, eval_str=True).parameters.items() if n not in _OF_EACH}
    own = {n: p for n, p in inspect.signature(command, eval_str=True).parameters.items() if n != "scan"}

    def joined(**values: Any) -> None:
        chosen = {name: values[name] for name in shared}
        command(scan=partial(run, **chosen), **{name: values[name] for name in own})

    first, last = {"model": own["model"]}, {"quiet": shared["quiet"]}
    order = {**first, **{n: p for n, p in shared.items() if n not in last}, **own, **last}
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in order.values()]
    joined.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect looks for it there
    joined.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    joined.__name__, joined.__doc__ = command.__name__, command.__doc__
    return joined
