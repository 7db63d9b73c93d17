"""Stdout and stderr: what goes where, and in which width and colour."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deadrelu.errors import DeadreluError, OutputError
from deadrelu.render.terminal.screen import Screen


def open_closed_streams() -> None:
    """Open /dev/null for each closed standard stream; `sys.stdout` stays None, so that a lost report is an error.

    Otherwise the next file to be opened gets the number of the stream, and all that the user's code prints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stays open as long as the process


def current_screen() -> Screen:
    """What stdout can show. `NO_COLOR` wins over `FORCE_COLOR`; a pipe gets 100 columns unless COLUMNS is set."""
    if sys.stdout is None:
        return Screen(width=100, color=False, unicode=True)
    tty = sys.stdout.isatty()
    wanted = tty and os.environ.get("TERM") != "dumb"
    color = (wanted or bool(os.environ.get("FORCE_COLOR"))) and not os.environ.get("NO_COLOR")
    try:
        "▁█✗".encode(sys.stdout.encoding or "ascii")
        blocks = True
    except (UnicodeEncodeError, LookupError):
        blocks = False
    return Screen(width=shutil.get_terminal_size((100, 24)).columns, color=color, unicode=blocks)


def write(text: str) -> None:
    """Write `text` to stdout unchanged: never through rich, which would wrap it and interpret its brackets.

    A closed pipe (`| head`) is not an error: the exit code still reports what the gate found. Raises `OutputError` if
    the disk is full or stdout is closed.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed", hint="send it to a file or to /dev/null; -o FORMAT=PATH writes a report")
    try:
        sys.stdout.write(encodable(text if text.endswith("\n") else text + "\n", sys.stdout.encoding))
        sys.stdout.flush()
    except OSError as error:
        fail_stdout(error)


def fail_stdout(error: OSError) -> None:
    """Raise the `OutputError` for stdout that could not be written, unless the pipe was closed."""
    # What is left in the buffer would raise again when Python flushes it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        raise OutputError(
            f"stdout cannot be written: {error.strerror or error}", hint="check the disk that it goes to"
        ) from error


def encodable(text: str, encoding: str | None) -> str:
    r"""The text with escapes (`\udcff`) for what the encoding lacks: one odd name must not cost the report."""
    try:
        known = encoding or "utf-8"
        return text.encode(known, errors="backslashreplace").decode(known)
    except LookupError:
        return text


def print_error(error: DeadreluError) -> None:
    """One line on stderr: what is wrong, and the next step; below it the example, if there is one."""
    _print_line(f"error: {error.message}{f'; {error.hint}' if error.hint else ''}")
    if error.example:
        _print_line(error.example)  # not indented: it is there to be copied


def print_note(text: str) -> None:
    """One line on stderr that is not an error."""
    _print_line(f"note: {text}")


def _print_line(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{line}\n")


class _Notes(logging.Handler):
    """Each log record as one line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning" if record.levelno >= logging.WARNING else "note"
        _print_line(f"{level}: {record.getMessage()}")


@contextmanager
def user_code(*, quiet: bool) -> Iterator[None]:
    """Send notes (only warnings, if `quiet`) and everything that the user's code prints to stderr.

    The file descriptor is redirected too: a C library's `printf` must not get into a report on stdout either.
    """
    log = logging.getLogger("deadrelu")
    handler = _Notes(logging.WARNING if quiet else logging.INFO)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    stdout = sys.stdout
    if stdout is not None:
        stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
        sys.stdout = stdout
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


@contextmanager
def progress(total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr with rate and time left; None if stderr is not a terminal, or if `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("scanning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("samples"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scan", total=total, rate="")

        def advance(samples: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=samples, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance
