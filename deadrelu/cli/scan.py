"""`deadrelu scan`: one pass over the data, one report, in as many formats as wanted."""

from __future__ import annotations

from pathlib import Path

import typer

from deadrelu.cli import console, ranks
from deadrelu.cli import options as o
from deadrelu.cli.baseline import baseline_gate
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.model_options import loss_options
from deadrelu.cli.outputs import check_outputs, show, write_outputs
from deadrelu.cli.run import run_of
from deadrelu.errors import ExitCode, UsageError
from deadrelu.judge.certain import with_proof
from deadrelu.judge.early import Until
from deadrelu.judge.judgement import exit_code
from deadrelu.judge.policy import Policy, parse_limit
from deadrelu.render.formats import Format
from deadrelu.render.terminal import proved
from deadrelu.report.proof import Proof


class ScanCommand(ModelCommand):
    """Scan takes a loss too."""

    shared = (*ModelCommand.shared, loss_options)


@command(ScanCommand)
def scan(
    context: typer.Context,
    model: o.ModelArgument = "",
    *,
    stats: o.StatsOption = "full",
    plasticity: o.PlasticityOption = False,
    initial: o.InitialOption = None,
    prove: o.ProveOption = False,
    saturated_below: o.SaturatedBelowOption = 0.01,
    max_dead: o.MaxDeadOption = None,
    max_dead_total: o.MaxDeadTotalOption = None,
    max_saturated: o.MaxSaturatedOption = None,
    limits: o.LimitsOption = [],
    baseline: o.BaselineOption = None,
    update_baseline: o.UpdateBaselineOption = False,
    tolerance: o.ToleranceOption = "0",
    rare_below: o.RareBelowOption = 0.01,
    confidence: o.ConfidenceOption = 0.95,
    select: o.SelectOption = [],
    ignore: o.IgnoreOption = [],
    strict: o.StrictOption = False,
    definition: o.DefinitionOption = None,
    tau: o.TauOption = None,
    until_verdict: o.UntilVerdictOption = False,
    until_likely: o.UntilLikelyOption = False,
    exit_zero: o.ExitZeroOption = False,
    format: o.ReportFormatOption = Format.TABLE,
    output: o.OutputOption = [],
    units: o.UnitsOption = [],
    full: o.FullOption = False,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Run MODEL over the data and report the units that never fire."""
    run, name = run_of(context, quiet=quiet), context.obj.name
    outputs = check_outputs(output, force=force, name=name or Path(model).stem)
    policy = Policy(
        max_dead=max_dead,
        max_dead_total=max_dead_total,
        max_saturated=max_saturated,
        rare_below=rare_below,
        confidence=confidence,
        strict=strict,
        select=tuple(select),
        ignore=tuple(ignore),
        limits=tuple(map(parse_limit, limits)),
        definition=definition,
        tau=tau,
    )
    until = _until(until_verdict, until_likely, baseline, definition)
    gate = baseline_gate(baseline, update=update_baseline, tolerance=tolerance, loosen=force, name=name, quiet=quiet)
    what = {"stats": stats, "plasticity": plasticity, "initial": initial, "saturated_below": saturated_below}
    report = run.scan(model, policy=policy, until=until, **what)
    if ranks.is_silent():
        return ExitCode.OK
    proof = run.prove(model) if prove else None
    report = with_proof(gate.apply(report, policy), proof)
    write_outputs(report, outputs, force=force)
    show(report, format, units, full=full)
    _show_proof(proof if format is Format.TABLE else None)
    return exit_code(report, exit_zero=exit_zero)


def _show_proof(proof: Proof | None) -> None:
    """Print what is certain below the table of a scan; nothing for None."""
    if proof is not None:
        console.write(f"\n{proved.render(proof, console.current_screen())}")


def _until(verdict: bool, likely: bool, baseline: Path | None, definition: str | None) -> Until | None:
    """When the scan stops. Raises `UsageError` where it cannot be compared with a baseline."""
    if baseline and (verdict or likely):
        raise UsageError("a scan that stops early cannot be compared with a baseline", hint="leave one of the two out")
    if baseline and definition:
        raise UsageError("a baseline records dead units, not those of a --definition", hint="leave one of the two out")
    return "likely" if likely else "verdict" if verdict else None
