"""Scans a program as it is, without the files and options around it."""

from __future__ import annotations

from collections.abc import Iterable

from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import to_report
from deadrelu.measure.scan import measure
from deadrelu.programs.program import Batch, Program
from deadrelu.report import DataInfo, ModelInfo, Report


def scan_program(program: Program, batches: Iterable[Batch]) -> Report:
    """The report of all sites, not judged."""
    model = ModelInfo(path=None, format="test", sha256=None, parameters=0)
    data = DataInfo(source=None, kind="dataset", samples=0, batches=0, seed=None)
    return to_report(measure(program, batches, Plan()), Plan(), model=model, data=data, settings={})
