"""The error tree: every error carries a hint, the next thing to do; and the exit codes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the command. Converted to an integer in one place, `cli.app.main`."""

    OK = 0
    GATE_FAILED = 1
    COULD_NOT_RUN = 2
    NOTHING_MEASURED = 3
    INTERRUPTED = 130


class DeadreluError(Exception):
    """An error with a one-line message (what is wrong, and where) and a hint (what to do next)."""

    exit_code = ExitCode.COULD_NOT_RUN

    def __init__(self, message: str, *, hint: str = "", example: str = "") -> None:
        r"""Keep `message` and `hint` on one line each: a person reads them in a CI log. `example` is code, in lines.

        All may quote names from a hostile file, so terminal control characters are escaped (`\x1b`).
        """
        self.message = _one_line(message)
        self.hint = _one_line(hint)
        self.example = "\n".join(_printable(line) for line in example.splitlines())
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def _one_line(text: str) -> str:
    """The text on one line, with unprintable characters escaped."""
    return _printable(" ".join(text.split()))


def _printable(plain: str) -> str:
    """The line with unprintable characters escaped."""
    return plain if plain.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in plain)


class UsageError(DeadreluError):
    """Options contradict each other, or one of them cannot be read."""


class FileError(DeadreluError):
    """A file is missing, broken, or not what it should be."""


class TrustError(DeadreluError):
    """The file would run code that is not allowed."""


class ArchitectureError(DeadreluError):
    """The model's code cannot be found or built, or does not fit the weights."""


class DataError(DeadreluError):
    """The data cannot be read, or does not fit the model."""


class ModelError(DeadreluError):
    """The model raised while it ran."""


class OutputError(DeadreluError):
    """A result cannot be written."""


class NothingMeasuredError(DeadreluError):
    """There was no activation site, or no batch."""

    exit_code = ExitCode.NOTHING_MEASURED


class TooManyDeadError(DeadreluError):
    """More units died in training than the caller allows."""

    exit_code = ExitCode.GATE_FAILED
