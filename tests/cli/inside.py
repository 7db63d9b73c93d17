"""The command line run inside the test's own process, where no second one is needed."""

from __future__ import annotations

from deadrelu.cli.app import app
from deadrelu.errors import DeadreluError


def ran(*arguments: str) -> int:
    """The exit code of a command that can run; raises what it refuses."""
    return int(app(list(arguments), standalone_mode=False, prog_name="deadrelu") or 0)


def refused(*arguments: str) -> str:
    """The line that a command is refused with."""
    try:
        code = ran(*arguments)
    except DeadreluError as error:
        return f"{error.message}; {error.hint}"
    raise AssertionError(f"it ran, with exit code {code}")
