"""Writes a report to the requested files and to stdout."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deadrelu.cli import console
from deadrelu.cli.values import output_paths
from deadrelu.config.keys import split_output
from deadrelu.errors import UsageError
from deadrelu.files.writing import check_writable, write_text
from deadrelu.judge.globs import matches
from deadrelu.render.formats import Format
from deadrelu.render.terminal.screen import Screen
from deadrelu.report import Report
from deadrelu.report.serialisation import to_json

Outputs = list[tuple[Format, Path]]


def check_outputs(texts: Sequence[str], *, force: bool, name: str = "report") -> Outputs:
    """Read `FORMAT=PATH` pairs, and check before the work that the files can be written.

    `{name}` in a path becomes `name`, with an underscore for each character that is not safe in a file name.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]|^[.]+$", "_", name)  # of dots alone it would lead elsewhere
    texts = [text.replace("{name}", safe) for text in texts]
    outputs = output_paths(texts, Format)
    for _, path in outputs:
        check_writable(path, force=force)
    return outputs


def outputs_of(
    what: str, texts: Sequence[str], formats: Sequence[Format], other: str, *, force: bool
) -> tuple[Outputs, list[Path]]:
    """Read the outputs of a result that is not a report, in these formats; and the paths behind `other=`.

    Raises `UsageError` for a format that it does not have.
    """
    paths = [Path(path) for text in texts for name, _, path in [split_output(text)] if path and name == other]
    outputs = check_outputs([text for text in texts if split_output(text)[0] != other], force=force)
    for kind, path in outputs:
        if kind not in formats:
            hint = ", ".join(format.value for format in formats)
            raise UsageError(f"-o {path}: {what} has no format {kind.value}", hint=hint)
    return outputs, paths


def write_outputs(report: Report, outputs: Outputs, *, force: bool) -> None:
    """Write the report to each file in its format."""
    for format, path in outputs:
        write_text(path, format.render(report), force=force)


def show(report: Report, format: Format, units: Sequence[str] = (), *, full: bool = False) -> None:
    """Write the report to stdout: the table in this screen's width and colours, another format unchanged.

    With `units`, globs over site ids, each unit of those sites is drawn instead; `UsageError` if there is none.
    """
    from deadrelu.render.terminal import table
    from deadrelu.render.terminal import units as map_of

    screen = console.current_screen()
    if units:
        chosen = [s for s in report.sites if any(matches(glob, s.site) for glob in units)]
        if not chosen:
            known = ", ".join(s.site.id for s in report.sites[:12])
            raise UsageError(f"--units {' '.join(units)} matches no measured site", hint=f"the sites are {known}")
        drawn = (map_of.render(s, screen) for s in chosen)
        console.write("\n".join(drawn))
    elif format is Format.TABLE:
        console.write(table.render(report, screen, full=full))
    else:
        console.write(format.render(report))


def show_plain(format: Format, data: Any, draw: Callable[[Screen], str]) -> None:
    """Write another result to stdout: `data` as JSON, or what `draw` returns for this screen."""
    console.write(to_json(data) if format is Format.JSON else draw(console.current_screen()))
