"""`deadrelu prove`: which silent units no input of a box wakes, and inputs that wake the others."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.command import command
from deadrelu.cli.configuration import ModelCommand
from deadrelu.cli.general import GATE, OUTPUT, PROOF
from deadrelu.cli.model_options import axis_options, data_options, model_options, site_options
from deadrelu.cli.outputs import outputs_of
from deadrelu.cli.proof_options import BoxOption, MarginOption
from deadrelu.cli.run import run_of
from deadrelu.cli.values import read_box, read_number
from deadrelu.errors import ExitCode
from deadrelu.files.writing import write_text
from deadrelu.render.formats import PLAIN, Format
from deadrelu.render.proof import html
from deadrelu.render.terminal import proved
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.proof import Proof

_proof, _output = map(o.option_in, (PROOF, OUTPUT))
_FORMATS = (*PLAIN, Format.HTML)


class ProveCommand(ModelCommand):
    """Prove takes one model."""

    shared = (model_options, data_options, site_options, axis_options)
    takes_every_model = False


_AllOption = Annotated[bool, _proof("--all", help="Count units that fire on the data as woken too.")]
_ExactOption = Annotated[
    float | None,
    _proof(
        metavar="SECONDS",
        parser=read_number,
        help="Give what stays open to a mixed-integer solver, for so long in all. For small networks.",
    ),
]
_FailOnOption = Annotated[
    Literal["woken", "open"] | None,
    o.choice(("woken", "open"), "--fail-on", help="Exit 1 if a silent unit is woken, or is open.", panel=GATE),
]
_OutputOption = Annotated[
    list[str],
    _output(
        "--output",
        "-o",
        metavar="[FORMAT=]PATH",
        help="Also write the proof to a file; witnesses=FILE.npz writes an input for each woken unit. Repeatable.",
    ),
]


@command(ProveCommand)
def prove(
    context: typer.Context,
    model: o.ModelArgument = "",
    *,
    box: BoxOption = "data",
    margin: MarginOption = 0.0,
    all: _AllOption = False,
    exact: _ExactOption = None,
    fail_on: _FailOnOption = None,
    format: Annotated[Format, o.choice(_FORMATS, "--format", help="Format of stdout.", panel=OUTPUT)] = Format.TABLE,
    output: _OutputOption = [],
    full: Annotated[bool, _output("--full", help="List every unit.")] = False,
    force: o.ForceOption = False,
    quiet: o.QuietOption = False,
) -> ExitCode:
    """Say of each silent unit of MODEL whether some input of a box wakes it, or none."""
    run = run_of(context, quiet=quiet)
    outputs, paths = outputs_of("a proof", output, _FORMATS, "witnesses", force=force)
    found = run.prove(
        model,
        box=read_box(box),
        margin=margin,
        exact=exact,
        all_units=all,
        witnesses=paths[-1] if paths else None,
        force=force,
    )
    for kind, path in outputs:
        write_text(path, _render(found, kind, Screen(), full=full), force=force)
    console.write(_render(found, format, console.current_screen(), full=full))
    return ExitCode.GATE_FAILED if fail_on is not None and found.totals[fail_on] else ExitCode.OK


def _render(proof: Proof, format: Format, screen: Screen, *, full: bool) -> str:
    """The proof as text."""
    if format is Format.HTML:
        return html.render(proof)
    return proof.to_json() if format is Format.JSON else proved.render(proof, screen, full=full)
