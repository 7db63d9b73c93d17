"""`deadrelu scan`: one pass over the data, one report, in as many formats as wanted."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from deadrelu.cli import console
from deadrelu.cli import options as o
from deadrelu.cli.scanning import Scan, scanning
from deadrelu.errors import UsageError
from deadrelu.files import check_writable, write_text
from deadrelu.judge.policy import Policy, exit_code
from deadrelu.render.formats import Format
from deadrelu.report import Report


@scanning
def scan(
    model: o.ModelArgument,
    scan: Scan,
    max_dead: o.MaxDead = None,
    max_dead_total: o.MaxDeadTotal = None,
    rare_below: o.RareBelow = 0.01,
    confidence: o.Confidence = 0.95,
    select: o.Select = [],  # noqa: B006
    ignore: o.Ignore = [],  # noqa: B006
    strict: o.Strict = False,
    exit_zero: o.ExitZero = False,
    format: Annotated[Format, typer.Option(help="What goes to stdout.", rich_help_panel="Output")] = Format.TABLE,
    output: o.Outputs = [],  # noqa: B006
    units: Annotated[
        list[str],
        typer.Option(
            metavar="SITE", help="Draw each unit of these sites instead of the table.", rich_help_panel="Output"
        ),
    ] = [],  # noqa: B006
    full: Annotated[bool, typer.Option("--full", help="List the healthy sites too.", rich_help_panel="Output")] = False,
    force: o.Force = False,
) -> None:
    """Run MODEL over the data and report the units that never fire."""
    outputs = o.output_paths(output, Format)
    for _, path in outputs:
        check_writable(path, force=force)
    policy = Policy(
        max_dead=max_dead,
        max_dead_total=max_dead_total,
        rare_below=rare_below,
        confidence=confidence,
        strict=strict,
        select=tuple(select),
        ignore=tuple(ignore),
    )
    report = scan(model, policy=policy)
    for name, path in outputs:
        write_text(path, Format(name).render(report), force=force)
    _show(report, format, units, full=full)
    raise typer.Exit(int(exit_code(report, exit_zero=exit_zero)))


def _show(report: Report, format: Format, units: list[str], *, full: bool) -> None:
    """Put the report on stdout: the table in this screen's width and colours, a machine's format as it is."""
    from deadrelu.render import table
    from deadrelu.render import units as map_of

    screen = console.screen()
    if units:
        chosen = [s for s in report.sites if any(fnmatchcase(s.site.id, glob) for glob in units)]
        if not chosen:
            known = ", ".join(s.site.id for s in report.sites[:12])
            raise UsageError(f"--units {' '.join(units)} matches no measured site", hint=f"the sites are {known}")
        drawn = (map_of.render(s, width=screen.width, color=screen.color, unicode=screen.unicode) for s in chosen)
        console.write("\n".join(drawn))
    elif format is Format.TABLE:
        console.write(table.render(report, width=screen.width, color=screen.color, unicode=screen.unicode, full=full))
    else:
        console.write(format.render(report))
