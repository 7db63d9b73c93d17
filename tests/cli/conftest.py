"""The command line as a user meets it: a process of its own, real files, two streams and an exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.cli.forked import TIMEOUT_S, Forks

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
DYING = str(SAMPLES / "dying.pt")
HEALTHY = str(SAMPLES / "healthy.pt")
CONV = str(SAMPLES / "conv.pt")
WEIGHTS = str(SAMPLES / "cnn_weights.pt")
NET = str(SAMPLES / "model.py")
DIGITS = str(SAMPLES / "digits.npz")

_READ_AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "TORCH", "CUDA", "DEADRELU_MALLOC", "DEADRELU_EXIT")
_SAID_BESIDE = ("note: ", "warning: ")


@dataclass(frozen=True)
class Done:
    """What a finished process leaves."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line, without its head."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would change the output, and with `changes`."""
    unwanted = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if k not in unwanted and not k.startswith("DEADRELU_")}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | changes


@cache
def _forks() -> Forks:
    return Forks(environment())


def deadrelu(*arguments: str, cwd: Path = ROOT, is_forked: bool = True, **changes: str) -> Done:
    """Run `python -m deadrelu` with these arguments, in `cwd`, with `changes` in the environment.

    In a fork, unless `changes` are read when Python or torch start, or a test is about that (`is_forked`).
    """
    if is_forked and hasattr(os, "fork") and not any(name.startswith(_READ_AT_START) for name in changes):
        code, out, err = _forks().run(list(arguments), cwd, environment(**changes))
        return Done(code, out.decode(), err.decode())
    command = [sys.executable, "-m", "deadrelu", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment(**changes), capture_output=True, timeout=TIMEOUT_S, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def check_refusal(done: Done, *said: str, code: int = 2, printed: tuple[str, ...] = ()) -> None:
    """One error line that says all of `said` and a next step; nothing on stdout; no traceback.

    `printed` are lines that the user's own code put on stderr.
    """
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    for pattern in said:
        assert re.search(pattern, done.error), done.error
    assert re.search(r"; \S", done.error), f"no next step in: {done.error}"
    beside = [line for line in done.err.splitlines() if not line.startswith("error: ") and line not in printed]
    assert all(line.startswith(_SAID_BESIDE) for line in beside), done.err


@pytest.fixture
def code(tmp_path: Path) -> Callable[[str], str]:
    """Write a Python file into the test's folder, and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "user_code.py"
        path.write_text("import os, sys, torch\nfrom torch import nn\n" + text)
        return str(path)

    return write
