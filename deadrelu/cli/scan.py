"""`deadrelu scan`: one pass over the data, one report, in as many formats as wanted."""

from __future__ import annotations

from pathlib import Path

import typer

from deadrelu.cli import options as o
from deadrelu.cli.choices import Stats
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.gating import baseline_gate
from deadrelu.cli.scanning import asked_by
from deadrelu.cli.showing import check_outputs, show, write_outputs
from deadrelu.errors import UsageError
from deadrelu.judge.early import Until
from deadrelu.judge.judgement import exit_code
from deadrelu.judge.policy import Policy, parse_limit
from deadrelu.render.formats import Format


@command(ModelCommand)
def scan(
    context: typer.Context,
    model: o.ModelArgument = "",
    stats: o.Statistics = Stats.FULL,
    max_dead: o.MaxDead = None,
    max_dead_total: o.MaxDeadTotal = None,
    limits: o.Limits = [],  # noqa: B006 - Typer reads the default and never changes it
    baseline: o.BaselineFile = None,
    update_baseline: o.UpdateBaseline = False,
    tolerance: o.Tolerance = "0",
    rare_below: o.RareBelow = 0.01,
    confidence: o.Confidence = 0.95,
    select: o.Select = [],  # noqa: B006
    ignore: o.Ignore = [],  # noqa: B006
    strict: o.Strict = False,
    until_verdict: o.UntilVerdict = False,
    until_likely: o.UntilLikely = False,
    exit_zero: o.ExitZero = False,
    format: o.ReportFormat = Format.TABLE,
    output: o.Outputs = [],  # noqa: B006
    units: o.Units = [],  # noqa: B006
    full: o.Full = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Run MODEL over the data and report the units that never fire."""
    asked = asked_by(context, quiet=quiet)
    outputs = check_outputs(output, force=force, name=context.obj.name or Path(model).stem)
    policy = Policy(
        max_dead=max_dead,
        max_dead_total=max_dead_total,
        rare_below=rare_below,
        confidence=confidence,
        strict=strict,
        select=tuple(select),
        ignore=tuple(ignore),
        limits=tuple(map(parse_limit, limits)),
    )
    until: Until | None = "likely" if until_likely else "verdict" if until_verdict else None
    if until and baseline:
        raise UsageError("a scan that stops early cannot be held against a baseline", hint="leave one of the two out")
    gate = baseline_gate(
        baseline,
        update=update_baseline,
        tolerance=tolerance,
        loosen=force,
        name=context.obj.name,
        quiet=quiet,
    )
    report = gate.hold(asked.scan(model, policy=policy, stats=stats.value, until=until), policy)
    write_outputs(report, outputs, force=force)
    show(report, format, units, full=full)
    raise typer.Exit(int(exit_code(report, exit_zero=exit_zero)))
