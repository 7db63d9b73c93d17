"""From a program and its batches to a judged report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deadrelu.judge.early import Snapshot, Stopped, Until, predict_verdict
from deadrelu.judge.judgement import judge
from deadrelu.judge.policy import Policy
from deadrelu.measure.padding.found import notes
from deadrelu.measure.scan import Plan, Progress, measure
from deadrelu.programs.program import Batch, Program
from deadrelu.report import DataInfo, ModelInfo, Report, Setting, Tool
from deadrelu.report.site import Sites
from deadrelu.version import __version__

if TYPE_CHECKING:
    from deadrelu.measure.distributed import Ranks

_log = logging.getLogger("deadrelu")


def report_on(
    program: Program,
    model: ModelInfo,
    batches: Iterable[Batch],
    data: DataInfo,
    *,
    plan: Plan,
    policy: Policy,
    settings: Mapping[str, Setting],
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    until: Until | None = None,
) -> Report:
    """Run `program` over `batches` and judge what was measured; `data` gets its figures here.

    `ranks` are the processes that share the work, each with the batches of its share. `until` says which clear verdict
    ends the scan before the data does.

    Raises what `measure` raises.
    """

    def stop(sites: Sequence[Snapshot], look: int, skipped: bool) -> Stopped | None:
        return predict_verdict(sites, policy, until, check=look, skipped=skipped) if until else None

    measured = measure(program, batches, plan, progress, ranks, stop if until else None)
    found = measured.padding
    if data.kind == "synthetic":
        found = replace(found, suspects=())  # a padding_idx that was drawn at random marks no padding
    for note in notes(found):
        _log.info(note)
    left_out = tuple(str(out) for out in measured.padding.left_out if out.padded)
    report = Report(
        tool=Tool(name="deadrelu", version=__version__, torch=torch.__version__),
        model=model,
        data=replace(data, samples=measured.samples, batches=measured.batches),
        settings={**settings, "stats": plan.stats, "until": until, "stopped": measured.stopped}
        | ({"padding": left_out} if left_out else {}),
        sites=Sites(measured.sites),
        skipped=measured.skipped,
        leaky=measured.leaky,
    )
    return judge(report, policy)
