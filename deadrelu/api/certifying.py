"""`prove`: what is certain of silent units? Torch comes when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deadrelu.data.spec import DataSpec
from deadrelu.errors import NothingMeasuredError, UsageError
from deadrelu.files.writing import check_writable
from deadrelu.keywords import takes, undisturbed
from deadrelu.load.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from deadrelu.api.scanning import Options
    from deadrelu.report.proof import Box, Proof


@takes(ModelSpec, DataSpec)
@undisturbed
def prove(
    model: nn.Module | str | Path,
    data: object = None,
    *,
    box: Literal["data"] | tuple[float, float] = "data",
    margin: float = 0.0,
    exact: float | None = None,
    all_units: bool = False,
    sites: Sequence[str] = (),
    skip_sites: Sequence[str] = (),
    witnesses: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    feature_axes: Mapping[str, int | None] | None = None,
    progress: Callable[[int], None] | None = None,
    invocation: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Proof:
    """Say of each unit that is silent on `data` whether some input of a box wakes it.

    A unit is proved if no input of the box makes it fire: bounds by intervals, then linear ones (CROWN, Zhang et al.
    2018) with optimised slopes (Xu et al. 2021), rounded outward so that no float32 pass contradicts them. It is woken
    if an input was found that does, confirmed by a plain forward pass; else it is open. Raises a `DeadreluError` with a
    hint, as `scan` does.

    `box`: "data", the range of each feature in the data, or the lower and upper end for every feature.
    `margin`: widens the range of the data at both ends by this share of its width.
    `exact`: gives what stays open to a mixed-integer solver, for so many seconds in all. For small networks.
    `all_units`: counts units that fire on the data as woken too.
    `sites`, `skip_sites`, `feature_axes`, `progress`: as for `scan`.
    `witnesses`: a `.npz` file to write, with an input for each woken unit; `force` overwrites it.
    `invocation`: the command line that led here.
    """
    from deadrelu.certify.box import sampled
    from deadrelu.certify.prove import prove
    from deadrelu.certify.result import proof_of, write_witnesses
    from deadrelu.data.source import open_data
    from deadrelu.load.open import open_program
    from deadrelu.measure.plan import Plan
    from deadrelu.measure.reporting import report_on

    if device not in (None, "auto", "cpu"):
        raise UsageError(f"--device {device}: bounds are computed on the CPU", hint="leave out --device")
    limits = box_of(box, margin)
    path = None if witnesses is None else Path(witnesses)
    if path is not None:
        if path.suffix != ".npz":
            raise UsageError(f"{path} is not a .npz file", hint="witnesses are arrays: give witnesses=FILE.npz")
        check_writable(path, force=force)
    source = DataSpec.of(data, options)
    program, info = open_program(ModelSpec.of(model, {**options, "device": "cpu"}))
    batches = open_data(source, program)
    plan = Plan(sites=tuple(sites), skip_sites=tuple(skip_sites), feature_axes=feature_axes or {}, stats="rates")
    report = report_on(program, info, batches, plan, progress=progress)
    found = prove(program, report.sites, sampled(batches, limits), batches, exact=exact)
    if not found.sites:
        raise NothingMeasuredError(
            "no site has units that can be dead", hint="prove is about ReLU and others that are flat somewhere"
        )
    if path is not None:
        write_witnesses(path, found.witnesses, program.parameter_names, force=force)
    settings: dict[str, Any] = {
        "exact": exact,
        "all_units": all_units,
        "witnesses": None if path is None else str(path),
    }
    return proof_of(report, found, limits, settings, invocation)


def box_of(box: Literal["data"] | tuple[float, float], margin: float) -> Box:
    """The box in its own words. Raises `UsageError`."""
    from deadrelu.report.proof import Box

    if box == "data":
        if not 0 <= margin <= 100:
            raise UsageError(f"margin={margin:g} is not a share of the width", hint="0.1 is a tenth")
        return Box(kind="data", margin=margin)
    low, high = box
    if margin:
        raise UsageError("a margin is for the range of the data", hint="widen the two ends of the box instead")
    if not low <= high:
        raise UsageError(f"the box {low:g},{high:g} is not a range", hint="the lower end first: 0,1")
    return Box(kind="range", low=low, high=high)
